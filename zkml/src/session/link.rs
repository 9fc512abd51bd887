//! One model's output is another's input, though neither is public.

use super::artefact::{Port, Settings};
use super::error::SessionError;
use super::seal::{Kind, read_json};
use super::verify::{Files, Verdict, verify};
use crate::machine::{Part, Vis};

/// A tensor that two proofs are known to share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Name of the output.
    pub output: String,
    /// Name of the input.
    pub input: String,
    /// How it is known: [`Vis::Public`], [`Vis::Hashed`] or [`Vis::Committed`].
    pub visibility: Vis,
}

/// Verifies two proofs, and that outputs of the first are inputs of the second: the given pairs of names, or else all of them in order.
///
/// Both tensors must be public, hashed or committed, alike, and have the same number of elements and the same scale. Digests need the same
/// width; commitments the same k and reference string.
///
/// # Errors
/// Those of [`verify()`]; [`SessionError::Unlinked`] with the tensors and what differs.
pub fn link(
    from: &Files,
    to: &Files,
    pairs: &[(String, String)],
    require_secure: bool,
) -> Result<(Verdict, Verdict, Vec<Linked>), SessionError> {
    let (first, second) = (verify(from, require_secure)?, verify(to, require_secure)?);
    let before: Settings = read_json(&from.settings, Kind::Settings)?;
    let after: Settings = read_json(&to.settings, Kind::Settings)?;
    let (outputs, inputs) = (&before.outputs, &after.inputs);
    let found = |ports: &[Port], name: &str| ports.iter().position(|p| p.name == name);
    let chosen: Vec<(usize, usize)> = if pairs.is_empty() {
        if outputs.len() != inputs.len() {
            let why = format!("{} outputs and {} inputs", outputs.len(), inputs.len());
            return Err(SessionError::Unlinked { output: "*".into(), input: "*".into(), why });
        }
        (0..outputs.len()).map(|i| (i, i)).collect()
    } else {
        let one = |(output, input): &(String, String)| {
            let missing = |why: &str| SessionError::Unlinked {
                output: output.clone(),
                input: input.clone(),
                why: why.to_owned(),
            };
            let o = found(outputs, output).ok_or_else(|| missing("the first model has no such output"))?;
            let i = found(inputs, input).ok_or_else(|| missing("the second model has no such input"))?;
            Ok((o, i))
        };
        pairs.iter().map(one).collect::<Result<_, SessionError>>()?
    };
    let mut linked = Vec::new();
    for (o, i) in chosen {
        let (Some(output), Some(input)) = (outputs.get(o), inputs.get(i)) else { continue };
        same(output, input, (&before, &first), (&after, &second)).map_err(|why| SessionError::Unlinked {
            output: output.name.clone(),
            input: input.name.clone(),
            why,
        })?;
        let visibility = output.visibility;
        linked.push(Linked { output: output.name.clone(), input: input.name.clone(), visibility });
    }
    Ok((first, second, linked))
}

type Side<'a> = (&'a Settings, &'a Verdict);

fn same(output: &Port, input: &Port, from: Side<'_>, to: Side<'_>) -> Result<(), String> {
    let equal = |what: &str, a: String, b: String| {
        (a == b).then_some(()).ok_or_else(|| format!("{what} differs: {a} and {b}"))
    };
    equal("visibility", output.visibility.to_string(), input.visibility.to_string())?;
    equal("number of elements", output.len().to_string(), input.len().to_string())?;
    equal("scale", output.scale.to_string(), input.scale.to_string())?;
    let told = |part: Part, name: &str, (_, verdict): Side<'_>| {
        let all = verdict.disclosed.iter();
        all.clone().find(|d| d.part == part && d.name == name).map(|d| d.value.clone())
    };
    match output.visibility {
        Vis::Hashed => equal("width in the digest", output.width().to_string(), input.width().to_string())?,
        Vis::Committed => {
            equal("k", from.0.k.to_string(), to.0.k.to_string())?;
            equal("reference string", from.0.srs.digest.clone(), to.0.srs.digest.clone())?;
        }
        Vis::Public => {
            let (a, b) = (values(Part::Output, output, from), values(Part::Input, input, to));
            return (a.is_some() && a == b).then_some(()).ok_or_else(|| "values differ".to_owned());
        }
        other => return Err(format!("{other} tensors cannot be compared")),
    }
    match (told(Part::Output, &output.name, from), told(Part::Input, &input.name, to)) {
        (Some(a), Some(b)) => equal("value", a, b),
        _ => Err("no digest or commitment".to_owned()),
    }
}

/// The public values of an input or output.
fn values(part: Part, port: &Port, (settings, verdict): Side<'_>) -> Option<Vec<halo2curves::bn256::Fr>> {
    let all = [
        (Part::Input, &settings.inputs),
        (Part::Params, &settings.params),
        (Part::Output, &settings.outputs),
    ];
    let mut at = 0;
    for (group, ports) in all {
        for p in ports.iter().filter(|p| p.visibility == Vis::Public) {
            if group == part && p.name == port.name {
                return verdict.instances.first()?.get(at..at + p.len()).map(<[_]>::to_vec);
            }
            at += p.len();
        }
    }
    None
}
