//! Who sees which tensor, and how.
//!
//! | kind | the verifier has | the prover has | cost |
//! |---|---|---|---|
//! | `public` | the values, in the instance | | a copy per value |
//! | `private` | nothing | the values | |
//! | `fixed` | the values, in the verifying key (parameters only) | | |
//! | `hashed` | a Poseidon digest, in the instance ([`super::poseidon`]) | the values | permutations |
//! | `committed` | KZG commitments, in the proof ([`super::commitment`]) | the values and an opening secret | a column, and a copy per value |
//!
//! A kind is for all inputs, all outputs or all parameters; [`Rule`]s name single tensors, and the last rule that matches a tensor counts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::qir::{Program, Role, TensorId};

use super::plan::PlanError;

/// Who sees a tensor, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Vis {
    /// Part of the instance: the verifier gives the values.
    Public,
    /// Known to the prover only.
    #[default]
    Private,
    /// Part of the verifying key. For parameters only.
    Fixed,
    /// Known to the prover only; a Poseidon digest is part of the instance.
    Hashed,
    /// Known to the prover only; a KZG commitment is part of the proof.
    Committed,
}

impl Vis {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Vis::Public => "public",
            Vis::Private => "private",
            Vis::Fixed => "fixed",
            Vis::Hashed => "hashed",
            Vis::Committed => "committed",
        }
    }
}

impl fmt::Display for Vis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Vis {
    type Err = String;

    /// Its name, or ezkl's name for the same thing: `hashed/public`, `polycommit`, `kzgcommit`.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "public" => Vis::Public,
            "private" => Vis::Private,
            "fixed" => Vis::Fixed,
            "hashed" | "hashed/public" => Vis::Hashed,
            "committed" | "polycommit" | "kzgcommit" => Vis::Committed,
            other if other.starts_with("hashed/private") => {
                return Err(format!("`{other}`: a digest is always public here; make the tensor private"));
            }
            other => {
                return Err(format!("`{other}` is not public, private, fixed, hashed or committed"));
            }
        })
    }
}

/// A group of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The model's inputs.
    Input,
    /// The model's outputs.
    Output,
    /// The model's parameters.
    Params,
}

impl Part {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Part::Input => "input",
            Part::Output => "output",
            Part::Params => "params",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The visibility of the tensors of a group whose names match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The group.
    pub part: Part,
    /// The name in the ONNX file; `*` stands for any characters, `?` for one.
    pub pattern: String,
    /// What the tensors are.
    pub visibility: Vis,
}

/// Visibility of each group of tensors, and of single ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visibility {
    /// Inputs.
    pub input: Vis,
    /// Outputs.
    pub output: Vis,
    /// Parameters.
    pub params: Vis,
    /// Tensors that are not like their group; the last that matches counts.
    pub tensors: Vec<Rule>,
}

impl Default for Visibility {
    fn default() -> Self {
        Visibility { input: Vis::Private, output: Vis::Public, params: Vis::Private, tensors: Vec::new() }
    }
}

impl Visibility {
    /// One kind for each group.
    pub fn new(input: Vis, output: Vis, params: Vis) -> Self {
        Visibility { input, output, params, tensors: Vec::new() }
    }

    /// The visibility of a tensor of a group.
    pub fn of(&self, part: Part, name: &str) -> Vis {
        let group = match part {
            Part::Input => self.input,
            Part::Output => self.output,
            Part::Params => self.params,
        };
        let rule = self.tensors.iter().rev().find(|r| r.part == part && matches(&r.pattern, name));
        rule.map_or(group, |r| r.visibility)
    }
}

impl FromStr for Visibility {
    type Err = String;

    /// `input=private,input.tokens=public,params.*embedding*=hashed`: groups and tensors, separated by commas; what is left out keeps its default. A name
    /// with a comma is written with `?` in its place.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut out = Visibility::default();
        for item in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (what, kind) = item
                .rsplit_once('=')
                .ok_or_else(|| format!("`{item}`: expected PART=KIND or PART.NAME=KIND"))?;
            let (part, name) = match what.trim().split_once('.') {
                Some((part, name)) => (part, Some(name)),
                None => (what.trim(), None),
            };
            let part = match part {
                "input" => Part::Input,
                "output" => Part::Output,
                "params" | "param" => Part::Params,
                other => return Err(format!("`{item}`: `{other}` is not input, output or params")),
            };
            let visibility = kind.trim().parse().map_err(|e| format!("`{item}`: {e}"))?;
            match (name, part) {
                (Some(pattern), part) => out.tensors.push(Rule { part, pattern: pattern.into(), visibility }),
                (None, Part::Input) => out.input = visibility,
                (None, Part::Output) => out.output = visibility,
                (None, Part::Params) => out.params = visibility,
            }
        }
        Ok(out)
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input={},output={},params={}", self.input, self.output, self.params)?;
        self.tensors.iter().try_for_each(|r| write!(f, ",{}.{}={}", r.part, r.pattern, r.visibility))
    }
}

/// Whether a name matches a pattern of `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star is, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The visibility of every tensor of a program that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// By input.
    pub inputs: Vec<Vis>,
    /// By output.
    pub outputs: Vec<Vis>,
    /// Parameters, in the program's order.
    pub params: Vec<(TensorId, Vis)>,
    /// Whether all parameters are part of the verifying key.
    pub all_fixed: bool,
}

impl Exposure {
    /// Applies rules to a program.
    ///
    /// # Errors
    ///
    /// [`PlanError::NoSuchTensor`] for a rule that matches nothing, [`PlanError::TensorVisibility`] and [`PlanError::Visibility`] for
    /// inputs or outputs that would be fixed.
    pub fn of(program: &Program, visibility: &Visibility) -> Result<Self, PlanError> {
        for (group, vis) in [("inputs", visibility.input), ("outputs", visibility.output)] {
            if vis == Vis::Fixed {
                return Err(PlanError::Visibility { group, visibility: vis });
            }
        }
        let name =
            |id: &TensorId| program.tensors.get(id.0 as usize).map(|t| t.name.as_str()).unwrap_or_default();
        let params: Vec<TensorId> = program
            .tensors
            .iter()
            .enumerate()
            .filter(|(_, t)| t.role == Role::Param)
            .map(|(i, _)| TensorId(i as u32))
            .collect();
        for rule in &visibility.tensors {
            let group = match rule.part {
                Part::Input => &program.inputs,
                Part::Output => &program.outputs,
                Part::Params => &params,
            };
            let mut found = group.iter().filter(|id| matches(&rule.pattern, name(id))).peekable();
            let Some(first) = found.peek() else {
                let known = group.iter().map(|id| name(id).to_owned()).collect();
                let (part, pattern) = (rule.part, rule.pattern.clone());
                return Err(PlanError::NoSuchTensor { part, pattern, known });
            };
            if rule.visibility == Vis::Fixed && rule.part != Part::Params {
                let tensor = name(first).to_owned();
                return Err(PlanError::TensorVisibility { tensor, visibility: rule.visibility });
            }
        }
        let params: Vec<(TensorId, Vis)> =
            params.iter().map(|&id| (id, visibility.of(Part::Params, name(&id)))).collect();
        let all = |part, ids: &[TensorId]| ids.iter().map(|id| visibility.of(part, name(id))).collect();
        Ok(Exposure {
            inputs: all(Part::Input, &program.inputs),
            outputs: all(Part::Output, &program.outputs),
            all_fixed: match params.is_empty() {
                true => visibility.params == Vis::Fixed,
                false => params.iter().all(|(_, v)| *v == Vis::Fixed),
            },
            params,
        })
    }

    /// The visibility of a parameter; others are private.
    pub fn param(&self, id: TensorId) -> Vis {
        self.params.iter().find(|(p, _)| *p == id).map_or(Vis::Private, |(_, v)| *v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*.weight", "fc1.weight", true),
            ("*.weight", "fc1.weight.1", false),
            ("fc?.*", "fc1.bias", true),
            ("*b*b*", "abab", true),
            ("*b*b*", "aba", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn text_and_back() {
        let text = "input=private,input.a/b:0=public,params=hashed/public,params.x.*=kzgcommit,output=hashed";
        let v: Visibility = text.parse().unwrap();
        assert_eq!((v.input, v.output, v.params), (Vis::Private, Vis::Hashed, Vis::Hashed));
        assert_eq!(v.of(Part::Input, "a/b:0"), Vis::Public);
        assert_eq!(v.of(Part::Input, "a/b"), Vis::Private);
        assert_eq!(v.of(Part::Params, "x.y"), Vis::Committed);
        assert_eq!(v.to_string().parse(), Ok(v));
        let later: Visibility = "params.*=hashed,params.a=private".parse().unwrap();
        assert_eq!(later.of(Part::Params, "a"), Vis::Private);
        for bad in ["inputs=public", "input", "input=secret", "hidden.x=public", "input=hashed/private/0"] {
            let e = bad.parse::<Visibility>().unwrap_err();
            assert!(e.contains(bad.split('=').next().unwrap()), "{e}");
        }
    }
}
