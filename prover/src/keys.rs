//! Keys on disk: upstream's bytes inside a checked container, and readers that never panic.
//!
//! Upstream's readers of proving keys panic on short files and believe the lengths that they read. The readers here
//! know from the circuit what a key must look like, take memory only for bytes that are really there, and refuse
//! everything else.
//!
//! Container, little-endian: magic `PARHKEY` and version (8 bytes), kind (1: verifying key, 2: proving key), the key as
//! upstream writes it in its raw format, length of the key (u64), BLAKE2b-256 of all before it. The digest comes last
//! so that a key is written and read in one pass.

use std::io::{self, Read, Write};

use blake2b_simd::{Params as Blake2b, State};
use ff::PrimeField;
use halo2_axiom::SerdeFormat;
use halo2_axiom::halo2curves::serde::SerdeObject;
use halo2_axiom::plonk::{self, Circuit, ConstraintSystem, permutation};
use halo2_axiom::poly::{EvaluationDomain, Polynomial};
use halo2curves::CurveAffine;
use halo2curves::bn256::{Fr, G1Affine};
use parhelion_backend_api::NttPlan;
use parhelion_backend_api::hal::{RefMut, as_bytes};
use rayon::prelude::*;

use crate::{Engine, ProvingKey, VerifyingKey};

const MAGIC: &[u8; 8] = b"PARHKEY\x01";
const VERIFYING: u8 = 1;
const PROVING: u8 = 2;
/// Field elements and points are read in pieces of this many bytes.
const PIECE: usize = 1 << 20;

/// Why a key file is unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Reading or writing failed.
    #[error("key: {0}")]
    Io(#[from] io::Error),
    /// The file is not of the expected format, is damaged, or belongs to another circuit.
    #[error("key: {0}")]
    Malformed(String),
    /// A transform failed.
    #[error("key: {0}")]
    Engine(String),
}

fn malformed<T>(why: impl Into<String>) -> Result<T, KeyError> {
    Err(KeyError::Malformed(why.into()))
}

/// Writes a verifying key.
///
/// # Errors
/// The writer's own.
pub fn write_vk(vk: &VerifyingKey, writer: impl Write) -> Result<(), KeyError> {
    seal(VERIFYING, writer, |sink| Ok(vk.write(sink, SerdeFormat::RawBytes)?))
}

/// Writes a proving key, with its verifying key inside.
///
/// # Errors
/// The writer's own.
pub fn write_pk(pk: &ProvingKey, writer: impl Write) -> Result<(), KeyError> {
    write_with(pk, writer, |_| malformed("the proving key is without its columns by value"))
}

/// Writes a proving key; columns by value that it leaves out are computed one at a time, so no second key is in memory.
///
/// # Errors
/// The writer's own; [`KeyError::Engine`].
pub(crate) fn write_held(engine: &Engine, pk: &ProvingKey, writer: impl Write) -> Result<(), KeyError> {
    let plan = NttPlan::forward(pk.get_vk().get_domain().k());
    write_with(pk, writer, |poly| {
        let mut values = poly.to_vec();
        engine
            .ntt_batch(&plan, &mut [RefMut::host(&mut values)])
            .map_err(|e| KeyError::Engine(e.to_string()))?;
        Ok(values)
    })
}

/// Writes a proving key with `evaluate` for its columns by value where it has none. The bytes are those of upstream's writer, which passes
/// elements on one by one.
fn write_with(
    pk: &ProvingKey,
    writer: impl Write,
    evaluate: impl Fn(&[Fr]) -> Result<Vec<Fr>, KeyError>,
) -> Result<(), KeyError> {
    seal(PROVING, writer, |sink| {
        pk.get_vk().write(sink, SerdeFormat::RawBytes)?;
        for column in [pk.l0(), pk.l_last(), pk.l_active_row()] {
            write_column(sink, column.values())?;
        }
        let permutation = pk.permutation();
        for (values, polys) in
            [(pk.fixed_values(), pk.fixed_polys()), (permutation.permutations(), permutation.polys())]
        {
            let count = (polys.len() as u32).to_be_bytes();
            sink.write_all(&count)?;
            for (at, poly) in polys.iter().enumerate() {
                match values.get(at) {
                    Some(values) => write_column(sink, values.values())?,
                    None => write_column(sink, &evaluate(poly.values())?)?,
                }
            }
            sink.write_all(&count)?;
            for poly in polys {
                write_column(sink, poly.values())?;
            }
        }
        Ok(())
    })
}

fn write_column(sink: &mut impl Write, values: &[Fr]) -> io::Result<()> {
    sink.write_all(&(values.len() as u32).to_be_bytes())?;
    sink.write_all(as_bytes(values))
}

/// Bytes of what [`write_pk`] writes for a key with this verifying key.
pub fn pk_len(vk: &VerifyingKey) -> u64 {
    let n = 1u64 << vk.get_domain().k();
    let (fixed, sigma) = (vk.fixed_commitments().len() as u64, vk.permutation().commitments().len() as u64);
    let selectors = if vk.compress_selectors() { vk.cs().num_selectors() as u64 * n.div_ceil(8) } else { 0 };
    let column = 4 + 32 * n;
    // Magic and kind, the verifying key, columns, and the lengths of four lists of them; length and digest.
    9 + (10 + 64 * (fixed + sigma) + selectors) + (3 + 2 * (fixed + sigma)) * column + 4 * 4 + 40
}

/// Reads a verifying key of `ConcreteCircuit`. `max_k` bounds what the file may ask for: the domain of a key takes memory in
/// proportion to 2^k.
///
/// # Errors
/// [`KeyError`] for anything but a key of this circuit that [`write_vk`] wrote.
pub fn read_vk<ConcreteCircuit: Circuit<Fr>>(
    reader: impl Read,
    params: ConcreteCircuit::Params,
    max_k: u32,
) -> Result<VerifyingKey, KeyError> {
    let mut reader = open(VERIFYING, reader)?;
    let parts = read_vk_parts::<ConcreteCircuit>(&mut reader, params, max_k)?;
    reader.close()?;
    parts.assemble()
}

/// Reads a proving key of `ConcreteCircuit`; `max_k` as for [`read_vk`].
///
/// # Errors
/// [`KeyError`] for anything but a key of this circuit that [`write_pk`] wrote.
pub fn read_pk<ConcreteCircuit: Circuit<Fr>>(
    reader: impl Read,
    params: ConcreteCircuit::Params,
    max_k: u32,
) -> Result<ProvingKey, KeyError> {
    let mut reader = open(PROVING, reader)?;
    let vk = read_vk_parts::<ConcreteCircuit>(&mut reader, params, max_k)?;
    let n = 1usize << vk.k;
    let [l0, l_last, l_active] = [reader.column(n)?, reader.column(n)?, reader.column(n)?];
    let columns = vk.fixed.len();
    let (fixed_values, fixed_polys) = (reader.columns(columns, n)?, reader.columns(columns, n)?);
    let sigmas = vk.sigma.len();
    let (sigma_values, sigma_polys) = (reader.columns(sigmas, n)?, reader.columns(sigmas, n)?);
    reader.close()?;
    Ok(plonk::ProvingKey::from_parts(
        vk.assemble()?,
        Polynomial::new(l0),
        Polynomial::new(l_last),
        Polynomial::new(l_active),
        fixed_values.into_iter().map(Polynomial::new).collect(),
        fixed_polys.into_iter().map(Polynomial::new).collect(),
        permutation::ProvingKey::from_parts(
            sigma_values.into_iter().map(Polynomial::new).collect(),
            sigma_polys.into_iter().map(Polynomial::new).collect(),
        ),
    ))
}

/// A verifying key before its domain, which takes memory, is built: that happens once the digest has been checked.
struct VkParts {
    k: u32,
    degree: usize,
    cs: ConstraintSystem<Fr>,
    fixed: Vec<G1Affine>,
    sigma: Vec<G1Affine>,
    selectors: Vec<Vec<bool>>,
    compressed: bool,
}

impl VkParts {
    fn assemble(self) -> Result<VerifyingKey, KeyError> {
        let domain = EvaluationDomain::new(self.degree as u32, self.k);
        Ok(plonk::VerifyingKey::from_parts(
            domain,
            self.fixed,
            permutation::VerifyingKey::from_commitments(self.sigma),
            self.cs,
            self.selectors,
            self.compressed,
        ))
    }
}

fn read_vk_parts<C: Circuit<Fr>>(
    reader: &mut Opened<impl Read>,
    params: C::Params,
    max_k: u32,
) -> Result<VkParts, KeyError> {
    if reader.array::<1>()? != [2] {
        return malformed("another version of halo2's key format");
    }
    let k = u32::from_le_bytes(reader.array()?);
    let compressed = match reader.array::<1>()? {
        [0] => false,
        [1] => true,
        _ => return malformed("the selector flag is neither 0 nor 1"),
    };
    let mut cs = ConstraintSystem::default();
    C::configure_with_params(&mut cs, params);
    let degree = cs.degree();
    let extended = k.saturating_add((degree as u64).next_power_of_two().ilog2());
    if k > max_k || extended > Fr::S {
        return malformed(format!("k = {k} is above {max_k} or too large for degree {degree}"));
    }
    if (1usize << k) < cs.minimum_rows() {
        return malformed(format!("k = {k} is too small for this circuit"));
    }
    let columns = cs.permutation().get_columns().len();
    let (rows, plain, virtual_selectors) = (1usize << k, cs.num_fixed_columns(), cs.num_selectors());
    let fixed_count = u32::from_le_bytes(reader.array()?) as usize;
    // Selectors become at most one column each.
    if fixed_count < plain || fixed_count > plain + virtual_selectors {
        return malformed(format!("{fixed_count} fixed columns: the key belongs to another circuit"));
    }
    let fixed = reader.points(fixed_count)?;
    let sigma = reader.points(columns)?;
    let (cs, selectors) = if compressed {
        let selectors = (0..virtual_selectors)
            .map(|_| {
                let bytes = reader.bytes(rows.div_ceil(8))?;
                Ok((0..rows).map(|row| bytes[row / 8] >> (row % 8) & 1 == 1).collect())
            })
            .collect::<Result<Vec<Vec<bool>>, KeyError>>()?;
        (cs.compress_selectors(selectors.clone()).0, selectors)
    } else {
        (cs.directly_convert_selectors_to_fixed(vec![vec![false]; virtual_selectors]).0, Vec::new())
    };
    if cs.num_fixed_columns() != fixed_count {
        return malformed(format!("{fixed_count} fixed columns: the key belongs to another circuit"));
    }
    Ok(VkParts { k, degree, cs, fixed, sigma, selectors, compressed })
}

/// Passes bytes on and digests them. Upstream's writers panic on an error, so errors are kept and bytes are dropped
/// from then on.
struct Sink<W> {
    inner: W,
    digest: State,
    len: u64,
    error: Option<io::Error>,
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
        if self.error.is_none() {
            self.error = self.inner.write_all(bytes).err();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn digest() -> State {
    Blake2b::new().hash_length(32).personal(b"parhelion-key-f1").to_state()
}

fn seal<W: Write>(
    kind: u8,
    writer: W,
    body: impl FnOnce(&mut Sink<io::BufWriter<W>>) -> Result<(), KeyError>,
) -> Result<(), KeyError> {
    let inner = io::BufWriter::with_capacity(PIECE, writer);
    let mut sink = Sink { inner, digest: digest(), len: 0, error: None };
    sink.write_all(MAGIC)?;
    sink.write_all(&[kind])?;
    sink.len = 0;
    body(&mut sink)?;
    let len = sink.len;
    sink.write_all(&len.to_le_bytes())?;
    let Sink { mut inner, digest, error, .. } = sink;
    if let Some(error) = error {
        return Err(error.into());
    }
    inner.write_all(digest.finalize().as_bytes())?;
    inner.flush()?;
    Ok(())
}

/// A container being read.
struct Opened<R> {
    inner: io::BufReader<R>,
    digest: State,
    len: u64,
}

fn open<R: Read>(kind: u8, reader: R) -> Result<Opened<R>, KeyError> {
    let inner = io::BufReader::with_capacity(PIECE, reader);
    let mut opened = Opened { inner, digest: digest(), len: 0 };
    if &opened.array::<8>()? != MAGIC {
        return malformed("not a Parhelion key (magic bytes differ)");
    }
    match opened.array::<1>()? {
        [found] if found == kind => {}
        [VERIFYING] => return malformed("a verifying key where a proving key is needed"),
        [PROVING] => return malformed("a proving key where a verifying key is needed"),
        [other] => return malformed(format!("unknown kind of key {other}")),
    }
    opened.len = 0;
    Ok(opened)
}

impl<R: Read> Opened<R> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), KeyError> {
        self.inner.read_exact(out)?;
        self.digest.update(out);
        self.len += out.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], KeyError> {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    /// `len` bytes, taking memory piece by piece.
    fn bytes(&mut self, len: usize) -> Result<Vec<u8>, KeyError> {
        let mut out = Vec::new();
        while out.len() < len {
            let at = out.len();
            out.resize(at + PIECE.min(len - at), 0);
            self.fill(&mut out[at..])?;
        }
        Ok(out)
    }

    /// `count` values of `size` bytes, each checked.
    fn values<T: Send>(
        &mut self,
        count: usize,
        size: usize,
        what: &str,
        value: impl Fn(&[u8]) -> Option<T> + Sync,
    ) -> Result<Vec<T>, KeyError> {
        let mut out: Vec<T> = Vec::new();
        while out.len() < count {
            let piece = self.bytes((count - out.len()).min(PIECE / size) * size)?;
            let parsed: Option<Vec<T>> = piece.par_chunks_exact(size).map(&value).collect();
            match parsed {
                Some(parsed) => out.extend(parsed),
                None => return malformed(format!("a {what} is not valid")),
            }
        }
        Ok(out)
    }

    fn points(&mut self, count: usize) -> Result<Vec<G1Affine>, KeyError> {
        self.values(count, 64, "commitment", |bytes| {
            <G1Affine as SerdeObject>::from_raw_bytes(bytes).filter(|p| bool::from(p.is_on_curve()))
        })
    }

    /// A polynomial of n values, with its length (u32, big-endian) before it.
    fn column(&mut self, n: usize) -> Result<Vec<Fr>, KeyError> {
        let len = u32::from_be_bytes(self.array()?) as usize;
        if len != n {
            return malformed(format!("a polynomial has {len} values, but the key has {n} rows"));
        }
        self.values(n, 32, "field element", <Fr as SerdeObject>::from_raw_bytes)
    }

    /// A list of polynomials, with its length (u32, big-endian) before it.
    fn columns(&mut self, count: usize, n: usize) -> Result<Vec<Vec<Fr>>, KeyError> {
        let len = u32::from_be_bytes(self.array()?) as usize;
        if len != count {
            return malformed(format!("a list has {len} polynomials, but {count} are needed"));
        }
        (0..count).map(|_| self.column(n)).collect()
    }

    /// Checks the length and the digest, and that nothing follows.
    fn close(&mut self) -> Result<(), KeyError> {
        let len = self.len;
        if u64::from_le_bytes(self.array()?) != len {
            return malformed("the length does not match: the key belongs to another circuit or is damaged");
        }
        let mut expected = [0; 32];
        self.inner.read_exact(&mut expected)?;
        if self.digest.finalize().as_bytes() != expected {
            return malformed("the digest does not match: the file is damaged");
        }
        if self.inner.read(&mut [0])? != 0 {
            return malformed("bytes follow the key");
        }
        Ok(())
    }
}
