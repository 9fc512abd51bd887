//! Scripts of edits of a JSON value.

use serde_json::{Map, Number, Value};

use crate::script::{NUMBERS, Script};

/// Most edits of one script.
const MAX_EDITS: usize = 32;
/// Nesting of the deepest value that an edit makes.
const DEEP: usize = 100;

/// Strings of the files that are edited.
pub const WORDS: [&str; 29] = [
    "public",
    "private",
    "fixed",
    "hashed",
    "committed",
    "input",
    "output",
    "params",
    "insecure",
    "ceremony",
    "claimed",
    "own",
    "*",
    "?",
    "",
    "0",
    "-1",
    "1e400",
    "NaN",
    "inf",
    "-0.0",
    "1e-320",
    "340282350000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001",
    "30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000000",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "\u{0}",
    "é",
];

/// Applies a script.
pub fn edit(base: &Value, script: &mut Script<'_>) -> Value {
    let mut value = base.clone();
    for _ in 0..MAX_EDITS {
        if step(&mut value, script).is_none() {
            break;
        }
    }
    value
}

/// Number of values in a value, itself included.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        _ => 0,
    }
}

/// The value at a position of the walk that visits a value before what is in it.
fn at<'a>(value: &'a mut Value, index: &mut usize) -> Option<&'a mut Value> {
    if *index == 0 {
        return Some(value);
    }
    *index -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|v| descend(v, index)),
        Value::Object(map) => map.values_mut().find_map(|v| descend(v, index)),
        _ => None,
    }
}

fn descend<'a>(value: &'a mut Value, index: &mut usize) -> Option<&'a mut Value> {
    let own = size(value);
    if *index < own {
        at(value, index)
    } else {
        *index -= own;
        None
    }
}

fn step(root: &mut Value, script: &mut Script<'_>) -> Option<()> {
    let operation = script.choose(12)?;
    let mut index = script.position(size(root))?;
    let here = at(root, &mut index)?;
    match operation {
        0 => *here = fresh(script)?,
        1 => {
            let number = NUMBERS[script.choose(NUMBERS.len())?];
            *here = number.into();
        }
        2 => {
            let number = NUMBERS[script.choose(NUMBERS.len())?] as i64;
            *here = number.wrapping_neg().into();
        }
        3 => {
            let delta = i64::from(script.byte()? as i8);
            match here {
                Value::Number(n) => *here = n.as_i64().unwrap_or(0).wrapping_add(delta).into(),
                Value::String(s) => *s = text(s, script)?,
                Value::Bool(b) => *b = !*b,
                _ => {}
            }
        }
        4 => {
            if let Value::String(s) = here {
                *s = text(s, script)?;
            }
        }
        5 => match here {
            Value::Array(items) if !items.is_empty() => {
                let i = script.choose(items.len())?;
                items.remove(i);
            }
            Value::Object(map) => {
                let i = script.choose(map.len())?;
                let key = map.keys().nth(i)?.clone();
                map.remove(&key);
            }
            _ => {}
        },
        6 => match here {
            Value::Array(items) if !items.is_empty() => {
                let (i, count) = (script.choose(items.len())?, 1 + script.choose(4)?);
                let copy = items.get(i)?.clone();
                items.splice(i..i, std::iter::repeat_n(copy, count));
            }
            Value::Object(map) => {
                let i = script.choose(map.len())?;
                let copy = map.values().nth(i)?.clone();
                map.insert(WORDS[script.choose(WORDS.len())?].to_owned(), copy);
            }
            _ => {}
        },
        7 => {
            if let Value::Array(items) = here {
                items.push(fresh(script)?);
            }
        }
        8 => {
            if let Value::Array(items) = here
                && !items.is_empty()
            {
                let (a, b) = (script.choose(items.len())?, script.choose(items.len())?);
                items.swap(a, b);
            }
        }
        9 => {
            // One value in the place of another.
            let mut from = script.position(size(root))?;
            let copy = at(root, &mut from)?.clone();
            let mut to = script.position(size(root))?;
            if size(&copy) < 256 {
                *at(root, &mut to)? = copy;
            }
        }
        10 => {
            let bits = f64::from_bits(script.number()?);
            *here = Number::from_f64(bits).map_or(Value::Null, Value::Number);
        }
        _ => {
            let depth = script.choose(DEEP)?;
            let inner = here.take();
            *here = (0..depth).fold(inner, |v, _| Value::Array(vec![v]));
        }
    }
    Some(())
}

fn fresh(script: &mut Script<'_>) -> Option<Value> {
    Some(match script.choose(10)? {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => Value::Array(Vec::new()),
        3 => Value::Object(Map::new()),
        4 | 5 => WORDS[script.choose(WORDS.len())?].into(),
        6 => NUMBERS[script.choose(NUMBERS.len())?].into(),
        7 => (NUMBERS[script.choose(NUMBERS.len())?] as i64).wrapping_neg().into(),
        8 => Number::from_f64(f64::from_bits(script.number()?)).map_or(Value::Null, Value::Number),
        _ => String::from_utf8_lossy(script.bytes()?).into_owned().into(),
    })
}

/// A string like another.
fn text(s: &str, script: &mut Script<'_>) -> Option<String> {
    let mut chars: Vec<char> = s.chars().collect();
    let operation = script.choose(6)?;
    let here = script.position(chars.len())?;
    match operation {
        0 | 1 => {
            if let Some(c) = chars.get_mut(here) {
                *c = char::from(b"0123456789abcdef.-+eE "[script.choose(22)?]);
            }
        }
        2 => chars.truncate(here),
        3 => {
            let count = 1 + script.choose(64)?;
            let c = char::from(b"0123456789abcdef.-+eE "[script.choose(22)?]);
            chars.splice(here..here, std::iter::repeat_n(c, count));
        }
        4 => {
            if let Some(c) = chars.get_mut(here) {
                *c = c.to_ascii_uppercase();
            }
        }
        _ => {
            let end = chars.len().min(here + 1 + script.choose(64)?);
            chars.drain(here..end);
        }
    }
    Some(chars.into_iter().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn sample() -> Value {
        serde_json::from_str(r#"{"a": [1, "two", {"b": null}], "c": 3.5, "d": true}"#).unwrap()
    }

    #[test]
    fn every_value_is_reached_once() {
        let mut value = sample();
        let n = size(&value);
        assert_eq!(n, 8);
        let mut seen: Vec<String> = (0..n).map(|mut i| at(&mut value, &mut i).unwrap().to_string()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), n);
        assert!(at(&mut value, &mut { n }).is_none());
    }

    #[test]
    fn scripts_edit() {
        assert_eq!(edit(&sample(), &mut Script::new(&[])), sample());
        let script: Vec<u8> = (0..=255).cycle().map(|b: u8| b.wrapping_mul(37)).take(2000).collect();
        let changed =
            (0..script.len()).filter(|&s| edit(&sample(), &mut Script::new(&script[s..])) != sample());
        assert!(changed.count() > 1900);
    }
}
