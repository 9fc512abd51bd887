//! The command line, as types.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use parhelion_dispatch::parse_bytes;
use parhelion_zkml::session::{Context, from_hex};

#[derive(Debug, Parser)]
#[command(name = "parhelion", version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Backends in order of preference (`cpu`, `auto`, …); a single name forces it
    #[arg(long, global = true, env = "PARHELION_BACKEND", value_name = "NAME[,NAME…]")]
    pub(crate) backend: Option<String>,
    /// Directory that keys and reference strings are kept in [default: the user's cache directory]
    #[arg(long, global = true, env = "PARHELION_CACHE", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) cache: Option<OsString>,
    /// Keep nothing between runs, whatever `--cache` says
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
    /// Memory that the process may take, such as 512M or 8G [default: what the system says is available]
    #[arg(long, global = true, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) memory: Option<u64>,
    /// More on standard error (-v: info, -vv: debug, -vvv: trace); `RUST_LOG` wins
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Errors only on standard error: no progress, no warnings
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// From a model and an input to a verified proof, in one go
    Prove(Prove),
    /// Check a proof
    Verify(Verify),
    /// Check two proofs, and that outputs of the first are inputs of the second
    Link(Link),
    /// Digests of inputs, outputs and parameters, as `hashed` ones appear in proofs
    Hash(Hash),
    /// Settings and keys of a model, for later `prove --setup`
    Setup(Setup),
    /// Run the model in integers, as the circuit does, and write all values
    Witness(Witness),
    /// Check every constraint of the circuit without a proof
    Mock(Mock),
    /// What the circuit of a model consists of, layer by layer
    Inspect(Inspect),
    /// The cheapest circuit that keeps a bound on accuracy, from samples
    Calibrate(Calibrate),
    /// Float against quantised accuracy on labelled images
    Accuracy(Accuracy),
    /// Backends and devices here, and the knobs in force
    Devices(Devices),
    /// Which backend would run an operation, and why
    Explain(Explain),
    /// Measure this machine and write a cost table
    Tune(Tune),
    /// Reference strings (powers of tau)
    #[command(subcommand)]
    Srs(Srs),
    /// Time an operation, against halo2-axiom on the same data
    Bench(Bench),
    /// Shell completions
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Lists of an input that a model has no input for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SurplusArg {
    /// They are an error
    Refuse,
    /// They are left aside, as exporters that drop unused inputs need
    Ignore,
}

/// What the model file leaves open about its inputs.
#[derive(Clone, Debug, Args)]
pub(crate) struct InputOptions {
    /// Length of a symbolic dimension, in place of the one that the lists of the input have
    #[arg(long = "variable", value_name = "NAME=N")]
    pub(crate) variables: Vec<String>,
    /// Shape of an input, in place of the one that its list has: `image=1,3,48,192`
    #[arg(long = "shape", value_name = "NAME=N,N,…")]
    pub(crate) shapes: Vec<String>,
    /// Makes an input a constant, public and part of the statement: a number that fills its shape, or a list (`sr=16000`, `mask=[1,1,0]`)
    #[arg(long = "constant", value_name = "NAME=VALUE")]
    pub(crate) constants: Vec<String>,
}

/// How a model becomes a circuit.
#[derive(Clone, Debug, Args)]
pub(crate) struct ModelOptions {
    /// Who sees what: `input`, `output`, `params`, or `PART.NAME` with `*` and `?`, each `public`, `private`, `fixed`, `hashed` or `committed`
    #[arg(
        long,
        value_name = "PART[.NAME]=KIND,…",
        default_value = "input=private,output=public,params=private"
    )]
    pub(crate) visibility: String,
    /// Fraction bits of activations
    #[arg(long, value_name = "BITS")]
    pub(crate) activation_bits: Option<u32>,
    /// Fraction bits of inputs
    #[arg(long, value_name = "BITS")]
    pub(crate) input_bits: Option<u32>,
    /// Fraction bits of outputs
    #[arg(long, value_name = "BITS")]
    pub(crate) output_bits: Option<u32>,
    /// Bits of a weight, sign included
    #[arg(long, value_name = "BITS")]
    pub(crate) weight_bits: Option<u32>,
    /// Allowed magnitude of any value, over what calibration saw
    #[arg(long, value_name = "FACTOR")]
    pub(crate) headroom: Option<f64>,
    /// Largest difference from the float model that is accepted, as a part of an output's largest absolute value [default: 0.01, and the same greatest score]
    #[arg(long, value_name = "PART")]
    pub(crate) accept_error: Option<f64>,
    /// Scales and ranges that `calibrate` wrote (`calibration.json`)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["activation_bits", "input_bits", "output_bits", "weight_bits", "headroom"])]
    pub(crate) settings: Option<PathBuf>,
    /// What happens to lists of the input that the model has no input for
    #[arg(long, value_enum, default_value_t = SurplusArg::Refuse)]
    pub(crate) surplus: SurplusArg,
    /// Smallest circuit: at least 2^N rows; proofs share commitments where this makes their sizes equal
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=26))]
    pub(crate) min_k: Option<u32>,
    /// Largest circuit: at most 2^N rows
    #[arg(long, value_name = "N", default_value_t = 22, value_parser = clap::value_parser!(u32).range(4..=26))]
    pub(crate) max_k: u32,
    /// Wanted length of a proof, whatever it costs in time; 0 for the fastest circuit [default: within 6144 if that costs little]
    #[arg(long, value_name = "BYTES")]
    pub(crate) proof_bytes: Option<usize>,
    #[command(flatten)]
    pub(crate) inputs: InputOptions,
}

/// 64 hexadecimal digits.
fn statement(text: &str) -> Result<String, String> {
    let digits = text.to_ascii_lowercase();
    match from_hex(&digits) {
        Some(bytes) if bytes.len() == 32 => Ok(digits),
        _ => Err("a statement is 64 hexadecimal digits".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// ONNX model
    pub(crate) model: PathBuf,
    /// Input, `{"input_data": [[…], …]}`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Directory for the proof and what its verifier needs
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Directory that `setup` wrote: prove for its settings and keys
    #[arg(long, value_name = "DIR", conflicts_with_all = ["visibility", "activation_bits", "input_bits", "output_bits", "weight_bits", "headroom", "settings", "min_k", "max_k", "proof_bytes"])]
    pub(crate) setup: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: ModelOptions,
    /// Reference string [default: a development one, generated, insecure]
    #[arg(long, value_name = "FILE")]
    pub(crate) srs: Option<PathBuf>,
    /// Secret that blinds committed tensors, made where the file does not exist; proofs under one secret have the same commitment of the same tensor
    #[arg(long, value_name = "FILE")]
    pub(crate) opening: Option<PathBuf>,
    /// What the proof is for (a chain, a request, a nonce): it verifies for nothing else. Text, or bytes as `0x…`
    #[arg(long, value_name = "TEXT_OR_HEX")]
    pub(crate) context: Option<Context>,
    /// Also write inputs and outputs as integers into a file that only you can read
    #[arg(long, value_name = "FILE")]
    pub(crate) witness: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Directory with `proof.json`, `settings.json`, `circuit.bin` and `vk.bin`, or the proof file itself
    pub(crate) proof: PathBuf,
    /// Your ONNX file: circuit and key are made from it, as the calibration says, and must be the proof's
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Options and ranges of the circuit [default: `calibration.json` beside the settings]
    #[arg(long, value_name = "FILE", requires = "model")]
    pub(crate) calibration: Option<PathBuf>,
    /// Digest of the statement, as `setup` printed it for somebody you trust
    #[arg(long, value_name = "HEX", value_parser = statement)]
    pub(crate) statement: Option<String>,
    /// Directory that `setup` wrote, from somebody you trust: settings, circuit and key are taken from there
    #[arg(long, value_name = "DIR", conflicts_with_all = ["vk", "circuit", "settings"])]
    pub(crate) setup: Option<PathBuf>,
    /// Make the key again from the circuit, whoever made that
    #[arg(long)]
    pub(crate) rederive: bool,
    /// Accept that circuit and key are held against nothing: the exit code is 0 instead of 3
    #[arg(long)]
    pub(crate) unpinned: bool,
    /// What the proof must be for, as in `prove --context`
    #[arg(long, value_name = "TEXT_OR_HEX")]
    pub(crate) context: Option<Context>,
    /// Your input: public inputs of the proof must be its, and hashed ones have its digests
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Verifying key [default: `vk.bin` beside the proof]
    #[arg(long, value_name = "FILE")]
    pub(crate) vk: Option<PathBuf>,
    /// Circuit [default: `circuit.bin` beside the proof]
    #[arg(long, value_name = "FILE")]
    pub(crate) circuit: Option<PathBuf>,
    /// Settings from somebody you trust, which pin the statement that they name [default: `settings.json` beside the proof, which pin nothing]
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// Reference string the proof must be under [default: the development one, if the proof says so]
    #[arg(long, value_name = "FILE")]
    pub(crate) srs: Option<PathBuf>,
    /// Refuse proofs under a development reference string
    #[arg(long)]
    pub(crate) require_secure_srs: bool,
    /// Refuse proofs in which a tensor has another digest or commitment: `input.NAME=HEX`, `params=HEX`, `output.NAME=HEX`
    #[arg(long = "expect", value_name = "TENSOR=HEX")]
    pub(crate) expect: Vec<String>,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Link {
    /// Directory of the proof whose outputs are meant
    pub(crate) from: PathBuf,
    /// Directory of the proof whose inputs are meant
    pub(crate) to: PathBuf,
    /// Which output is which input: a name, or `#N` for the one at position N from 0 [default: all of them, in order]
    #[arg(long = "map", value_name = "OUTPUT=INPUT")]
    pub(crate) map: Vec<String>,
    /// Digest of the first proof's statement, from somebody you trust
    #[arg(long, value_name = "HEX", value_parser = statement, conflicts_with = "setup_from")]
    pub(crate) statement_from: Option<String>,
    /// Digest of the second proof's statement, from somebody you trust
    #[arg(long, value_name = "HEX", value_parser = statement, conflicts_with = "setup_to")]
    pub(crate) statement_to: Option<String>,
    /// Directory that `setup` wrote for the first model, from somebody you trust
    #[arg(long, value_name = "DIR")]
    pub(crate) setup_from: Option<PathBuf>,
    /// Directory that `setup` wrote for the second model, from somebody you trust
    #[arg(long, value_name = "DIR")]
    pub(crate) setup_to: Option<PathBuf>,
    /// What the first proof must be for
    #[arg(long, value_name = "TEXT_OR_HEX")]
    pub(crate) context_from: Option<Context>,
    /// What the second proof must be for
    #[arg(long, value_name = "TEXT_OR_HEX")]
    pub(crate) context_to: Option<Context>,
    /// Accept that a statement is held against nothing: the exit code is 0 instead of 3
    #[arg(long)]
    pub(crate) unpinned: bool,
    /// Reference string that both proofs must be under
    #[arg(long, value_name = "FILE")]
    pub(crate) srs: Option<PathBuf>,
    /// Refuse proofs under a development reference string
    #[arg(long)]
    pub(crate) require_secure_srs: bool,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Hash {
    /// ONNX model
    pub(crate) model: PathBuf,
    /// Input, `{"input_data": [[…], …]}`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Directory that `setup` wrote: hash the integers of its quantised model
    #[arg(long, value_name = "DIR")]
    pub(crate) setup: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: ModelOptions,
    /// Also print commitments under this secret, as a circuit of 2^`--k` rows has them
    #[arg(long, value_name = "FILE", requires = "k")]
    pub(crate) opening: Option<PathBuf>,
    /// log₂ of the number of rows of that circuit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(7..=26))]
    pub(crate) k: Option<u32>,
    /// Reference string of that circuit [default: a development one]
    #[arg(long, value_name = "FILE")]
    pub(crate) srs: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// ONNX model
    pub(crate) model: PathBuf,
    /// Input to calibrate with; the range of every later input should be like this one's
    #[arg(short, long, value_name = "FILE", required_unless_present = "settings")]
    pub(crate) input: Option<PathBuf>,
    /// Directory for settings and keys
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) options: ModelOptions,
    /// Reference string [default: a development one, generated, insecure]
    #[arg(long, value_name = "FILE")]
    pub(crate) srs: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Witness {
    /// ONNX model
    pub(crate) model: PathBuf,
    /// Input, `{"input_data": [[…], …]}`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "witness.json")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) options: ModelOptions,
}

#[derive(Debug, Args)]
pub(crate) struct Mock {
    /// ONNX model
    pub(crate) model: PathBuf,
    /// Input, `{"input_data": [[…], …]}`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Input to choose ranges with [default: the same]; then `--input` may leave them, and the error says where
    #[arg(long, value_name = "FILE")]
    pub(crate) calibrate_with: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: ModelOptions,
    /// One JSON object on standard output, which says what fails where
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// ONNX model
    pub(crate) model: PathBuf,
    /// Input to calibrate with [default: the range [-1, 1] for every input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Prove the input as well, and show what each layer took
    #[arg(long, requires = "input")]
    pub(crate) measure: bool,
    #[command(flatten)]
    pub(crate) options: ModelOptions,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a calibration must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetricArg {
    /// Points of top-1 lost against the float model (answers that differ from it, without labels)
    Top1,
    /// Greatest deviation of an output element
    MaxAbs,
    /// Mean squared deviation of the outputs
    Mse,
}

#[derive(Debug, Args)]
pub(crate) struct Calibrate {
    /// ONNX model
    pub(crate) model: PathBuf,
    /// Samples: a directory of inputs, an input (`.json`), a list of inputs (`.json`, `.jsonl`), an array (`.npy`) or images (IDX, gzip
    /// or not) [default: evenly spread values]
    #[arg(long, value_name = "FILE_OR_DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Right answers of the samples: IDX, `.npy`, or numbers in a text or JSON file
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(crate) labels: Option<PathBuf>,
    /// Samples FROM to TO − 1 only
    #[arg(long, value_name = "FROM..TO", requires = "data")]
    pub(crate) range: Option<String>,
    /// An image's byte is divided by this
    #[arg(long, value_name = "N", default_value_t = 255.0)]
    pub(crate) divide: f64,
    /// What must be kept
    #[arg(long, value_enum, default_value_t = MetricArg::MaxAbs)]
    pub(crate) metric: MetricArg,
    /// How much of it may be lost [default: 0.5 points, 1e-3, or 1e-6]
    #[arg(long, value_name = "VALUE")]
    pub(crate) budget: Option<f64>,
    /// Directory for `calibration.json`, `report.json` and `report.html`
    #[arg(short, long, value_name = "DIR", default_value = "calibration")]
    pub(crate) out: PathBuf,
    /// Most circuits that are tried
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) trials: u32,
    /// How much more a circuit may cost, as a factor, if no input can fail in it
    #[arg(long, value_name = "FACTOR", default_value_t = 1.25)]
    pub(crate) cover_cost: f64,
    /// Forget the trials of an earlier run
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Who sees what, as for `prove`: it decides the circuit's size
    #[arg(long, value_name = "PART=KIND,…", default_value = "input=private,output=public,params=private")]
    pub(crate) visibility: String,
    /// Largest circuit: at most 2^N rows
    #[arg(long, value_name = "N", default_value_t = 22, value_parser = clap::value_parser!(u32).range(4..=26))]
    pub(crate) max_k: u32,
    #[command(flatten)]
    pub(crate) inputs: InputOptions,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Accuracy {
    /// ONNX model with one input (an image) and scores as its first output
    pub(crate) model: PathBuf,
    /// Images, IDX of bytes, gzip or not
    #[arg(long, value_name = "FILE")]
    pub(crate) images: PathBuf,
    /// Labels, IDX of bytes, gzip or not
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: PathBuf,
    /// Images FROM to TO − 1 only
    #[arg(long, value_name = "FROM..TO")]
    pub(crate) range: Option<String>,
    /// A pixel's byte is divided by this
    #[arg(long, value_name = "N", default_value_t = 255.0)]
    pub(crate) divide: f64,
    /// Images to calibrate with, from the start of the range [default: one]
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) calibrate: usize,
    #[command(flatten)]
    pub(crate) options: ModelOptions,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// log₂ of the number of rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=28))]
    pub(crate) k: u32,
    /// Columns per call
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) batch: usize,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tune {
    /// File to write; name it in `PARHELION_TABLE` to use it
    #[arg(short, long, value_name = "FILE", default_value = "parhelion-costs.json")]
    pub(crate) out: PathBuf,
    /// Largest log₂ of the sizes that are measured
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(8..=24))]
    pub(crate) max_log_n: u32,
    /// Measure a sample again with the table in force, and fail above the bound on regret
    #[arg(long)]
    pub(crate) check: bool,
    /// Greatest mean of the chosen backend's time over the best backend's
    #[arg(long, value_name = "BOUND", default_value_t = 1.05, requires = "check")]
    pub(crate) max_regret: f64,
    /// Size of the sample
    #[arg(long, value_name = "N", default_value_t = 50, requires = "check")]
    pub(crate) samples: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Srs {
    /// Generate a development reference string: insecure, its secret is known
    Gen {
        /// log₂ of the number of points
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=26))]
        k: u32,
        /// File to write
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Convert a `.ptau` of snarkjs or raw halo2 parameters, after checking them
    Import {
        /// The file
        file: PathBuf,
        /// File to write
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
        /// Keep 2^N points [default: all]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=28))]
        k: Option<u32>,
    },
    /// Check that a reference string holds the powers of one secret (by a pairing)
    Check {
        /// The file
        file: PathBuf,
        /// One JSON object on standard output
        #[arg(long)]
        json: bool,
    },
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchOp {
    /// Multi-scalar multiplication, uniform scalars
    Msm,
    /// Number-theoretic transform
    Ntt,
    /// From the challenge y to the first quotient commitment of a proof: h(X) and its commitments
    Quotient,
    /// A whole proof: 12 narrow and 6 wide columns, degree 5
    Proof,
}

impl BenchOp {
    pub(crate) fn name(self) -> &'static str {
        match self {
            BenchOp::Msm => "msm",
            BenchOp::Ntt => "ntt",
            BenchOp::Quotient => "quotient",
            BenchOp::Proof => "proof",
        }
    }
}

/// What it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The stock prover, from crates.io
    Halo2Axiom,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to time
    pub(crate) op: BenchOp,
    /// log₂ of the length
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=26))]
    pub(crate) log_n: u32,
    /// Also time a peer on the same data, interleaved
    #[arg(long)]
    pub(crate) against: Option<Peer>,
    /// Runs of each; medians are reported
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn everything_has_a_help_text() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path}");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{path}: {}", arg.get_id());
            }
            command.get_subcommands().for_each(|c| check(c, &path));
        }
        check(&super::Cli::command(), "");
    }
}
