//! Which operators are supported, and what of their operands must be known when the model is imported.

use super::fused;
use super::ml;
use super::operators::{OPERATORS, Operator};

/// The operator, where it is supported.
pub(crate) fn lookup(domain: &str, name: &str) -> Option<&'static Operator> {
    match domain {
        "" | "ai.onnx" => {}
        ml::DOMAIN => return ml::lookup(name),
        fused::DOMAIN => return fused::lookup(name),
        _ => return None,
    }
    OPERATORS.binary_search_by(|o| o.name.cmp(name)).ok().and_then(|i| OPERATORS.get(i))
}

/// Whether an operator of a domain (empty for ONNX's own) is supported in at least one form.
pub fn is_supported(domain: &str, name: &str) -> bool {
    lookup(domain, name).is_some()
}

/// The names of all supported operators.
pub fn supported_ops() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|o| o.name)
}

/// All supported operators, in alphabetical order.
pub fn operators() -> impl Iterator<Item = &'static Operator> {
    OPERATORS.iter()
}

/// All supported operators of a domain besides ONNX's own, in alphabetical order: `ai.onnx.ml` or `com.microsoft`.
pub fn operators_of(domain: &str) -> impl Iterator<Item = &'static Operator> {
    match domain {
        ml::DOMAIN => ml::OPERATORS,
        fused::DOMAIN => fused::OPERATORS,
        _ => &[],
    }
    .iter()
}

/// A rewrite of an unsupported operator, where one is known.
pub(crate) fn hint(domain: &str, name: &str) -> Option<&'static str> {
    Some(match name {
        "If" | "Loop" | "Scan" => "export with trip counts that do not depend on data, on fixed shapes",
        "RandomNormal" | "RandomUniform" | "RandomNormalLike" | "RandomUniformLike" | "Multinomial"
        | "Bernoulli" => "make the random values an input of the model",
        "NonMaxSuppression" | "Unique" | "Compress" => {
            "cut the graph before this node: its result has a shape that depends on data"
        }
        "SequenceEmpty" | "SequenceInsert" | "SequenceAt" | "ConcatFromSequence" | "SplitToSequence" => {
            "export with fixed shapes, without lists of tensors"
        }
        _ if domain == ml::DOMAIN => "convert with hummingbird-ml (backend \"torch\") and export that",
        _ if domain == "com.microsoft" => {
            "export without ONNX Runtime's graph optimisations, or set the optimisation level to basic"
        }
        _ if !matches!(domain, "" | "ai.onnx") => {
            "inline model-local functions with onnx.inliner.inline_local_functions"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        for table in [OPERATORS, ml::OPERATORS, fused::OPERATORS] {
            assert!(table.is_sorted_by(|a, b| a.name < b.name));
        }
        let reformed = |o: &&Operator| o.reformed();
        assert_eq!(OPERATORS.iter().filter(reformed).count(), 25);
        assert!(is_supported("", "Conv") && is_supported("ai.onnx", "Xor") && !is_supported("", "Conv2"));
    }
}
