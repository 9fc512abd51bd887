//! The two sides of the C interface say the same: `kernels/api.h`, `src/ffi.rs`, and the symbols of the libraries that were built.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::process::Command;

const HEADER: &str = include_str!("../kernels/api.h");
const BINDING: &str = include_str!("../src/ffi.rs");

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The Rust type of a C type.
fn rust_type(c: &str) -> String {
    let c = c.replace('*', " * ");
    let mut words: Vec<&str> = c.split_whitespace().collect();
    if words.last() == Some(&"*") {
        words.pop();
        let constant = words.first() == Some(&"const") && !words.contains(&"*");
        if constant {
            words.remove(0);
        }
        return format!("*{} {}", if constant { "const" } else { "mut" }, rust_type(&words.join(" ")));
    }
    match words.as_slice() {
        ["int32_t"] => "i32",
        ["uint8_t"] => "u8",
        ["uint32_t"] => "u32",
        ["uint64_t"] => "u64",
        ["size_t"] => "usize",
        ["void"] => "c_void",
        ["ph_limbs"] => "Limbs",
        ["ph_info"] => "Info",
        ["ph_bases"] => "Points",
        ["ph_column"] => "Column",
        ["ph_transform"] => "Transform",
        ["ph_program"] => "ProgramCode",
        ["ph_query"] => "Evaluate",
        ["ph_term"] => "Term",
        other => panic!("a C type without a Rust type: {other:?}"),
    }
    .into()
}

/// Name and Rust type of a C declaration.
fn declaration(c: &str) -> (String, String) {
    let c = c.trim();
    let at = c.rfind(|ch: char| !(ch.is_alphanumeric() || ch == '_')).expect("a type and a name");
    (c[at + 1..].to_owned(), rust_type(&c[..=at]))
}

type Fields = Vec<(String, String)>;

fn functions_of_the_header() -> BTreeMap<String, Fields> {
    let lines = HEADER.lines().filter_map(|line| line.strip_prefix("int32_t PH_NAME("));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(")(").unwrap();
            let arguments = rest.strip_suffix(");").expect("one line per function");
            (name.to_owned(), arguments.split(',').map(declaration).collect())
        })
        .collect()
}

fn fields(text: &str) -> Fields {
    let fields = text.split(',').map(|field| field.trim().trim_start_matches("pub(crate) "));
    fields
        .filter(|field| !field.is_empty())
        .map(|field| {
            let (name, kind) = field.split_once(": ").unwrap();
            (name.to_owned(), kind.to_owned())
        })
        .collect()
}

fn functions_of_the_binding() -> BTreeMap<String, Fields> {
    let list = BINDING.split("interface! {").nth(1).unwrap();
    let functions = list.split(");").filter_map(|function| function.split_once("fn "));
    functions
        .map(|(_, function)| {
            let (name, arguments) = function.split_once('(').unwrap();
            (name.to_owned(), fields(&words(arguments)))
        })
        .collect()
}

#[test]
fn functions_have_the_same_arguments() {
    let (header, binding) = (functions_of_the_header(), functions_of_the_binding());
    assert!(header.len() >= 20, "{header:?}");
    assert_eq!(header, binding);
}

#[test]
fn structures_have_the_same_fields() {
    let mut compared = 0;
    for structure in HEADER.split("typedef struct ").skip(1) {
        let (name, rest) = structure.split_once(" {").unwrap();
        let body = rest.split('}').next().unwrap();
        let header: Fields = body
            .split(';')
            .filter(|field| !field.trim().is_empty())
            .map(|field| match field.split_once('[') {
                None => declaration(field),
                Some((field, len)) => {
                    let (name, kind) = declaration(&field.replace("char", "uint8_t"));
                    (name, format!("[{kind}; {}]", len.trim_end_matches(']')))
                }
            })
            .collect();
        let start = format!("pub(crate) struct {} {{", rust_type(name));
        let body =
            BINDING.split(&start).nth(1).unwrap_or_else(|| panic!("no {start}")).split('}').next().unwrap();
        assert_eq!(header, fields(&words(body)), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn constants_are_the_same() {
    let defined = |name: &str| -> i64 {
        let line = HEADER.lines().find_map(|line| line.strip_prefix(&format!("#define {name} "))).unwrap();
        line.trim().parse().unwrap()
    };
    for (name, line) in [
        ("PH_OK", "const OK: i32 = 0;"),
        ("PH_OUT_OF_MEMORY", "const OUT_OF_MEMORY: i32 = 1;"),
        ("PH_LOST", "const LOST: i32 = 2;"),
        ("PH_INVALID", "const INVALID: i32 = 3;"),
        ("PH_STAGING_SLOTS", "const STAGING_SLOTS: u32 = 8;"),
    ] {
        let value = line.trim_end_matches(';').rsplit(' ').next().unwrap().parse::<i64>().unwrap();
        assert_eq!(defined(name), value, "{name}");
        assert!(BINDING.contains(line), "{line}");
    }
    assert!(BINDING.contains("const STAGING_BYTES: usize = 8 << 20;"));
    assert_eq!(defined("PH_STAGING_BYTES"), 8 << 20);
}

/// What a library exports under a prefix, where this build has it.
fn exported(archive: Option<&str>, prefix: &str) -> Option<Vec<String>> {
    let output =
        Command::new("nm").args(["-g", "--defined-only", archive?]).output().expect("nm, of binutils");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.split_whitespace().last());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect();
    names.sort();
    Some(names)
}

#[test]
fn libraries_export_what_is_declared() {
    let declared: Vec<String> = functions_of_the_binding().into_keys().collect();
    for (archive, prefix) in [
        (option_env!("PARHELION_SPPARK_CUDA"), "parhelion_cuda_"),
        (option_env!("PARHELION_SPPARK_EMULATION"), "parhelion_emulation_"),
    ] {
        match exported(archive, prefix) {
            Some(exported) => assert_eq!(exported, declared, "{prefix}"),
            None => eprintln!("skipped: this build has no {prefix}* functions"),
        }
    }
}
