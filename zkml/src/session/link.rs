//! One model's output is another's input, though neither is public.

use super::artefact::{Port, printable};
use super::error::SessionError;
use super::statement::Statement;
use super::verdict::{Told, Verdict};
use super::verify::{Files, Terms, verify_statement};
use crate::machine::{Part, Vis};

/// A tensor that two proofs are known to share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Position of the output among the first model's.
    pub from: usize,
    /// Position of the input among the second model's.
    pub to: usize,
    /// Name of the output.
    pub output: String,
    /// Name of the input.
    pub input: String,
    /// How it is known: [`Vis::Public`], [`Vis::Hashed`] or [`Vis::Committed`].
    pub visibility: Vis,
}

/// Which output is which input: a name that only one of them has, or `#` and a position from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The output of the first model.
    pub output: String,
    /// The input of the second.
    pub input: String,
}

/// A proof with what its verifier asks of it.
type Side<'a> = (&'a Files, &'a Terms);

/// Verifies two proofs, and that outputs of the first are inputs of the second: the given ones, or else all of them in order.
///
/// Both tensors must be public, hashed or committed, alike, and have the same number of elements and the same scale. Digests need the same
/// width; commitments the same k and reference string.
///
/// # Errors
/// Those of [`verify_under`](super::verify_under); [`SessionError::Unlinked`] with the tensors and what differs.
pub fn link(
    from: Side<'_>,
    to: Side<'_>,
    places: &[Place],
) -> Result<(Verdict, Verdict, Vec<Linked>), SessionError> {
    let (before, first) = verify_statement(from.0, from.1)?;
    let (after, second) = verify_statement(to.0, to.1)?;
    let (outputs, inputs) = (before.outputs(), after.inputs());
    let unlinked = |output: &str, input: &str, why: String| SessionError::Unlinked {
        output: printable(output),
        input: printable(input),
        why,
    };
    let chosen: Vec<(usize, usize)> = if places.is_empty() {
        if outputs.len() != inputs.len() {
            let why = format!("{} outputs and {} inputs", outputs.len(), inputs.len());
            return Err(unlinked("*", "*", why));
        }
        (0..outputs.len()).map(|i| (i, i)).collect()
    } else {
        let one = |place: &Place| {
            let refuse = |why| unlinked(&place.output, &place.input, why);
            let o = position(outputs, &place.output).map_err(|e| refuse(format!("the first model {e}")))?;
            let i = position(inputs, &place.input).map_err(|e| refuse(format!("the second model {e}")))?;
            Ok((o, i))
        };
        places.iter().map(one).collect::<Result<_, SessionError>>()?
    };
    let mut linked = Vec::new();
    for (o, i) in chosen {
        let (Some(output), Some(input)) = (outputs.get(o), inputs.get(i)) else { continue };
        let (a, b) = (tensor(&first, Part::Output, o), tensor(&second, Part::Input, i));
        same((output, a, &before), (input, b, &after))
            .map_err(|why| unlinked(&output.name, &input.name, why))?;
        linked.push(Linked {
            from: o,
            to: i,
            output: output.name.clone(),
            input: input.name.clone(),
            visibility: output.visibility,
        });
    }
    Ok((first, second, linked))
}

/// The position of a port by its name, if no other has it, or by `#N`.
fn position(ports: &[Port], place: &str) -> Result<usize, String> {
    let mut found = ports.iter().enumerate().filter(|(_, p)| p.name == place);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Ok(at),
        (Some(_), Some(_)) => Err("has several of that name: `#N` is the one at position N".to_owned()),
        (None, _) => place
            .strip_prefix('#')
            .and_then(|n| n.parse().ok())
            .filter(|&n: &usize| n < ports.len())
            .ok_or_else(|| "has none of that name".to_owned()),
    }
}

fn tensor(verdict: &Verdict, part: Part, at: usize) -> Option<&Told> {
    verdict.tensors.iter().filter(|t| t.part == part).nth(at)
}

type End<'a> = (&'a Port, Option<&'a Told>, &'a Statement);

fn same((output, a, from): End<'_>, (input, b, to): End<'_>) -> Result<(), String> {
    let equal = |what: &str, a: &str, b: &str| {
        (a == b).then_some(()).ok_or_else(|| format!("{what} differs: {a} and {b}"))
    };
    let numbers = |what: &str, a: i128, b: i128| equal(what, &a.to_string(), &b.to_string());
    equal("visibility", output.visibility.name(), input.visibility.name())?;
    numbers("number of elements", output.len() as i128, input.len() as i128)?;
    numbers("scale", output.scale.into(), input.scale.into())?;
    match output.visibility {
        Vis::Hashed => numbers("width in the digest", output.width().into(), input.width().into())?,
        Vis::Committed => {
            numbers("k", from.k().into(), to.k().into())?;
            equal("reference string", &from.s_g2, &to.s_g2)?;
        }
        Vis::Public => {
            let (a, b) = (a.and_then(|t| t.values.as_ref()), b.and_then(|t| t.values.as_ref()));
            return (a.is_some() && a == b).then_some(()).ok_or_else(|| "values differ".to_owned());
        }
        other => return Err(format!("{other} tensors cannot be compared")),
    }
    match (a.and_then(|t| t.digest.as_ref()), b.and_then(|t| t.digest.as_ref())) {
        (Some(a), Some(b)) => equal("value", a, b),
        _ => Err("no digest or commitment".to_owned()),
    }
}
