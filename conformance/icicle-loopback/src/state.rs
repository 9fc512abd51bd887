//! What the library remembers: devices, memory, faults, violations.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use halo2curves::bn256::Fr;

/// Codes of `eIcicleError` that the library itself returns.
pub(crate) mod code {
    pub(crate) const INVALID_DEVICE: i32 = 1;
    pub(crate) const OUT_OF_MEMORY: i32 = 2;
    pub(crate) const INVALID_POINTER: i32 = 3;
    pub(crate) const SYNCHRONIZATION_FAILED: i32 = 7;
    pub(crate) const API_NOT_IMPLEMENTED: i32 = 10;
    pub(crate) const INVALID_ARGUMENT: i32 = 11;
    pub(crate) const UNKNOWN_ERROR: i32 = 14;
}

/// A device as callers name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) kind: String,
    pub(crate) id: i32,
}

impl Name {
    pub(crate) fn cpu() -> Self {
        Name { kind: "CPU".into(), id: 0 }
    }

    pub(crate) fn is_cpu(&self) -> bool {
        self.kind == "CPU"
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Name>> = const { RefCell::new(None) };
}

/// The calling thread's device, if it chose one.
pub(crate) fn current() -> Option<Name> {
    CURRENT.with(|current| current.borrow().clone())
}

pub(crate) fn set_current(name: Name) {
    CURRENT.with(|current| *current.borrow_mut() = Some(name));
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Fail(i32),
    Corrupt(u64),
    Hang(Duration),
}

#[derive(Clone, Debug)]
struct Fault {
    call: String,
    at: u64,
    kind: Kind,
}

#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) device: Name,
    pub(crate) words: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) cuda: bool,
    pub(crate) cuda_devices: i32,
    pub(crate) total: u64,
    pub(crate) memory: BTreeMap<usize, Allocation>,
    next_address: usize,
    /// The root of the domain and log₂ of its order.
    pub(crate) domains: HashMap<Name, (Fr, u32)>,
    faults: Vec<Fault>,
    calls: HashMap<String, u64>,
    all_calls: u64,
    lose_at: Option<u64>,
    injected: u64,
    violations: Vec<String>,
    /// Whether a thread without a device is refused.
    pub(crate) strict: bool,
}

/// Addresses that no host allocation has, and that fault when they are read.
const FIRST_ADDRESS: usize = 0x0600_0000_0000_0000;

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The state of this copy of the library.
pub(crate) fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    let mut state: MutexGuard<'_, Option<State>> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    f(state.get_or_insert_with(State::new))
}

impl State {
    fn new() -> Self {
        State {
            cuda: false,
            cuda_devices: 1,
            total: 8 << 30,
            memory: BTreeMap::new(),
            next_address: FIRST_ADDRESS,
            domains: HashMap::new(),
            faults: Vec::new(),
            calls: HashMap::new(),
            all_calls: 0,
            lose_at: None,
            injected: 0,
            violations: Vec::new(),
            strict: false,
        }
    }

    /// Counts a call; what is to happen to it.
    pub(crate) fn enter(&mut self, call: &str) -> Option<Kind> {
        let count = self.calls.entry(call.to_owned()).or_default();
        let now = *count;
        *count += 1;
        self.all_calls += 1;
        let found = self.faults.iter().position(|fault| fault.call == call && fault.at == now)?;
        self.injected += 1;
        Some(self.faults.swap_remove(found).kind)
    }

    /// Whether the device is gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.lose_at.is_some_and(|at| self.all_calls > at)
    }

    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub(crate) fn violations(&self) -> String {
        self.violations.join("\n")
    }

    pub(crate) fn used(&self) -> u64 {
        self.memory.values().map(|allocation| allocation.words.len() as u64 * 8).sum()
    }

    pub(crate) fn allocate(&mut self, device: Name, bytes: usize) -> Result<usize, i32> {
        if (self.used()).saturating_add(bytes as u64) > self.total {
            return Err(code::OUT_OF_MEMORY);
        }
        let address = self.next_address;
        // A gap between allocations: what runs over the end of one hits nothing.
        self.next_address += bytes.next_multiple_of(4096) + 4096;
        // Fresh memory of a device holds anything.
        let words = vec![0x5a5a_5a5a_5a5a_5a5a; bytes.div_ceil(8)];
        self.memory.insert(address, Allocation { device, words });
        Ok(address)
    }

    /// The allocation that holds an address, and the offset in words.
    pub(crate) fn find(&mut self, address: usize, bytes: usize) -> Option<(&mut Allocation, usize)> {
        let (start, allocation) = self.memory.range_mut(..=address).next_back()?;
        let at = address - *start;
        let fits = at.is_multiple_of(8) && at + bytes <= allocation.words.len() * 8;
        fits.then_some((allocation, at / 8))
    }

    /// A copy of words of device memory.
    pub(crate) fn read(&mut self, address: usize, words: usize, device: &Name) -> Result<Vec<u64>, i32> {
        match self.find(address, words * 8) {
            Some((allocation, at)) if allocation.device == *device => {
                Ok(allocation.words[at..at + words].to_vec())
            }
            _ => {
                self.violate(format!("T5: {words} words at {address:#x} are not memory of {device:?}"));
                Err(code::INVALID_POINTER)
            }
        }
    }

    /// Writes words of device memory.
    pub(crate) fn write(&mut self, address: usize, words: &[u64], device: &Name) -> Result<(), i32> {
        match self.find(address, words.len() * 8) {
            Some((allocation, at)) if allocation.device == *device => {
                allocation.words[at..at + words.len()].copy_from_slice(words);
                Ok(())
            }
            _ => {
                self.violate(format!("T5: writing to {address:#x}, which is not memory of {device:?}"));
                Err(code::INVALID_POINTER)
            }
        }
    }

    /// A command of the control interface.
    pub(crate) fn control(&mut self, command: &str) -> i64 {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().ok();
        match words.as_slice() {
            ["fail", call, at, code] => match code.parse() {
                Ok(code) => self.fault(call, number(at), Kind::Fail(code)),
                Err(_) => -1,
            },
            ["corrupt", call, at, seed] => match number(seed) {
                Some(seed) => self.fault(call, number(at), Kind::Corrupt(seed)),
                None => -1,
            },
            ["hang", call, at, ms] => match number(ms) {
                Some(ms) => self.fault(call, number(at), Kind::Hang(Duration::from_millis(ms))),
                None => -1,
            },
            ["lose", at] => match number(at) {
                Some(at) => {
                    self.lose_at = Some(self.all_calls + at);
                    self.injected += 1;
                    0
                }
                None => -1,
            },
            ["strict", on] => number(on).map_or(-1, |on| {
                self.strict = on != 0;
                0
            }),
            ["memory", bytes] => number(bytes).map_or(-1, |bytes| {
                self.total = bytes;
                0
            }),
            ["devices", count] => number(count).map_or(-1, |count| {
                self.cuda_devices = count as i32;
                0
            }),
            ["reset"] => {
                self.faults.clear();
                self.calls.clear();
                self.violations.clear();
                self.lose_at = None;
                (self.injected, self.all_calls) = (0, 0);
                0
            }
            ["calls", call] => self.calls.get(*call).copied().unwrap_or(0) as i64,
            ["injected"] => self.injected as i64,
            ["live"] => self.memory.len() as i64,
            ["violations"] => self.violations.len() as i64,
            _ => -1,
        }
    }

    fn fault(&mut self, call: &str, at: Option<u64>, kind: Kind) -> i64 {
        let Some(at) = at else { return -1 };
        let now = self.calls.get(call).copied().unwrap_or(0);
        self.faults.push(Fault { call: call.to_owned(), at: now + at, kind });
        0
    }
}
