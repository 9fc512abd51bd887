#!/usr/bin/env bash
# rustc, with coverage for the crates that read files.
set -euo pipefail
case " $* " in
*" --crate-name parhelion_"* | *" --crate-name fuzz_"* | *" --crate-name prost "* | *" --crate-name postcard "*)
    exec "$@" --cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table
    ;;
*) exec "$@" ;;
esac
