#!/usr/bin/env bash
# fuzz/run.sh TARGET SECONDS [LIBFUZZER OPTIONS]: builds a target, runs it for a time on a corpus that it keeps, and prints executions, coverage and
# processor seconds. SECONDS = 0 builds only. TARGET: onnx, settings, input, proof or keys.
#
# Needs the nightly toolchain, for coverage, and a C++ compiler, for libFuzzer. Everything is kept under target/fuzz (CARGO_TARGET_DIR moves it).
# A finding ends the run, with exit status 1; the input that caused it is in target/fuzz/crashes/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:?TARGET}
seconds=${2:?SECONDS}
shift 2
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/fuzz}
home=${PARHELION_FUZZ_HOME:-$CARGO_TARGET_DIR}
toolchain=${PARHELION_FUZZ_TOOLCHAIN:-nightly}

checks=()
for crate in zkml prover fuzz; do
    checks+=(--config "profile.release.package.parhelion-$crate.overflow-checks=true"
        --config "profile.release.package.parhelion-$crate.debug-assertions=true")
done
RUSTC_WRAPPER=$PWD/fuzz/rustc.sh cargo "+$toolchain" build --release "${checks[@]}" -p parhelion-fuzz --features libfuzzer --bins

corpus=$home/corpus/$target
crashes=$home/crashes/$target
mkdir -p "$corpus" "$crashes"
# The seeds are written before anything is run.
PARHELION_FUZZ_SEEDS=$home "$CARGO_TARGET_DIR/release/fuzz-$target" -runs=0 2>/dev/null
[ "$seconds" -gt 0 ] || exit 0

case $target in
onnx) length=65536 ;;
input) length=4096 ;;
*) length=512 ;;
esac
TMPDIR=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
# One thread, so that what an input covers does not depend on the scheduler.
export RAYON_NUM_THREADS=1
TIMEFORMAT='processor seconds: %U user, %S system'
# An allocation that is out of proportion fails, and that is a finding. libFuzzer's own limit of time is by the clock on the wall; the target measures processor
# time.
ulimit -v "${PARHELION_FUZZ_KIB:-4194304}"
status=0
options=(-max_total_time="$seconds" -max_len="$length" -timeout=600 -rss_limit_mb=2560 -print_final_stats=1)
# Scripts of edits soon need more than a few bytes.
options+=(-len_control=10 -artifact_prefix="$crashes/")
if [ -s "$home/$target.dict" ]; then options+=(-dict="$home/$target.dict"); fi
time "$CARGO_TARGET_DIR/release/fuzz-$target" "$corpus" "${options[@]}" "$@" || status=$?
exit "$status"
