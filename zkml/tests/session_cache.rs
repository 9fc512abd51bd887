//! Cached keys against somebody who can write into the cache, and files that come together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use parhelion_prover::{KeygenOptions, keygen, keys};
use parhelion_zkml::input::Surplus;
use parhelion_zkml::machine::ModelCircuit;
use parhelion_zkml::session::{
    self, Cache, Keys, Need, Options, Prepared, Room, Session, SessionError, Setup, read_limited,
};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits-mlp").join(name)
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("parhelion-session-cache-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    dir
}

fn session(cache: &Path) -> Session {
    Session::new(parhelion_backends::default_engine().unwrap().clone(), Cache::at(cache))
}

fn prepared(session: &mut Session, visibility: &str) -> Prepared {
    let options = Options { visibility: visibility.parse().unwrap(), ..Options::default() };
    let imported = session.import(&example("model.onnx"), &options.import).unwrap();
    let input = session.input(&imported, &example("input.json"), Surplus::Refuse).unwrap();
    session.prepare(imported, &[input], &options).unwrap()
}

fn made(session: &mut Session, prepared: &Prepared) -> Keys {
    let srs = session.srs(None, prepared.k()).unwrap();
    session.keys(prepared, &srs).unwrap()
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    fs::read_dir(cache.join("keys")).unwrap().map(|e| e.unwrap().path()).collect()
}

const PLAIN: &str = "input=private,output=public,params=private";

#[test]
fn a_poisoned_key_is_made_again() {
    let dir = scratch("poison");
    let mut s = session(&dir);
    let plan = prepared(&mut s, PLAIN);
    let honest = made(&mut s, &plan);
    assert!(!honest.from_cache());
    let entry = entries(&dir).pop().unwrap();
    let good = fs::read(&entry).unwrap();
    assert_eq!(good.len() as u64, honest.pk_len());
    let again = made(&mut s, &plan);
    assert!(again.from_cache() && again.vk_bytes() == honest.vk_bytes());

    // The same constraint system, all fixed columns zero, no copies: it has a proof of anything.
    let engine = parhelion_backends::default_engine().unwrap();
    let srs = s.srs(None, plan.k()).unwrap();
    let empty = ModelCircuit::new(&plan.plan).advice_only();
    let poison = keygen(engine, &srs, &empty, KeygenOptions::default()).unwrap();
    let mut bytes = Vec::new();
    keys::write_pk(&poison, &mut bytes).unwrap();
    assert_eq!(bytes.len(), good.len());
    fs::write(&entry, &bytes).unwrap();
    let healed = made(&mut s, &plan);
    assert!(!healed.from_cache(), "the poisoned key was taken");
    assert_eq!(healed.settings(), honest.settings());
    assert!(healed.vk_bytes() == honest.vk_bytes());
    assert!(fs::read(&entry).unwrap() == good, "the entry is the honest one again");

    // A damaged one.
    let mut mixed = good.clone();
    mixed[good.len() / 2] ^= 1;
    fs::write(&entry, &mixed).unwrap();
    assert!(!made(&mut s, &plan).from_cache());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn layouts_do_not_share_an_entry() {
    let dir = scratch("names");
    let mut s = session(&dir);
    for (count, visibility) in
        [PLAIN, "input=public,output=public,params=private", "input=private,output=public,params=fixed"]
            .into_iter()
            .enumerate()
    {
        let plan = prepared(&mut s, visibility);
        made(&mut s, &plan);
        assert_eq!(entries(&dir).len(), count + 1, "{visibility}");
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_setup_comes_whole_and_is_resumed() {
    let (dir, cache) = (scratch("setup"), scratch("setup-keys"));
    let mut s = session(&cache);
    let plan = prepared(&mut s, PLAIN);
    let keys = made(&mut s, &plan);
    // A file that cannot be replaced: nothing else is.
    fs::create_dir_all(dir.join(session::SETTINGS_JSON)).unwrap();
    assert!(s.write_setup(&dir, &plan, &keys).is_err());
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [session::SETTINGS_JSON]);
    fs::remove_dir(dir.join(session::SETTINGS_JSON)).unwrap();
    s.write_setup(&dir, &plan, &keys).unwrap();
    // The prepared key, which is cut down, writes what the cache has.
    let pk = read_limited(&dir.join(session::PK_BIN), 1 << 30).unwrap();
    assert!(pk == fs::read(entries(&cache).pop().unwrap()).unwrap());
    let imported = s.import(&example("model.onnx"), &Options::default().import).unwrap();
    let (_, resumed) = s.resume(imported, Setup::read(&dir).unwrap(), None).unwrap();
    assert!(resumed.vk_bytes() == keys.vk_bytes());
    fs::remove_dir_all(dir).unwrap();
    fs::remove_dir_all(cache).unwrap();
}

#[test]
fn too_little_memory_is_an_error_before_the_keys() {
    let dir = scratch("memory");
    let mut s = session(&dir);
    let plan = prepared(&mut s, PLAIN);
    let need: Need = plan.memory();
    let srs = s.srs(None, plan.k()).unwrap();
    let mut poor = session(&dir).with_memory(1 << 20);
    match poor.keys(&plan, &srs) {
        Err(SessionError::Memory { need: told, room, .. }) => assert!(told == need.peak() && room < told),
        other => panic!("{other:?}"),
    }
    assert!(session(&dir).with_memory(1 << 40).keys(&plan, &srs).is_ok());
    if cfg!(target_os = "linux") {
        assert!(Room::now().is_some_and(|room| room.bytes > 0));
    }
    fs::remove_dir_all(dir).unwrap();
}
