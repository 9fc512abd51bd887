//! The running process: what it is started with, and facts about it.

use anyhow::Result;

/// Threads per core at most: more only wait for each other.
const THREADS_PER_CORE: usize = 4;

/// Makes the environment one that commands can work in; a warning, if something was changed.
///
/// # Errors
/// When the process cannot be started again, or its threads cannot be.
pub(crate) fn prepare() -> Result<Option<String>> {
    without_max_degree()?;
    threads(std::env::var("RAYON_NUM_THREADS").ok().as_deref())
}

/// halo2 takes the greatest degree of a circuit from `MAX_DEGREE`, and so a prover and a verifier who have set it differently would disagree
/// about every key. The variable is taken away by starting again without it.
fn without_max_degree() -> Result<()> {
    #[cfg(unix)]
    if std::env::var_os("MAX_DEGREE").is_some() {
        use anyhow::Context;
        use std::os::unix::process::CommandExt;
        let mut args = std::env::args_os();
        let name = args.next().unwrap_or_default();
        let program =
            std::env::current_exe().context("MAX_DEGREE is set, and the program cannot be found")?;
        let mut again = std::process::Command::new(program);
        let error = again.arg0(name).args(args).env_remove("MAX_DEGREE").exec();
        return Err(error).context("MAX_DEGREE is set, and the program cannot be started without it");
    }
    Ok(())
}

/// Starts the threads: as many as there are cores, or as many as are asked for, within reason.
fn threads(asked: Option<&str>) -> Result<Option<String>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let Some(asked) = asked.and_then(|n| n.trim().parse::<usize>().ok()) else { return Ok(None) };
    let Some(cap) = capped(asked, cores) else { return Ok(None) };
    rayon::ThreadPoolBuilder::new().num_threads(cap).build_global()?;
    Ok(Some(format!("RAYON_NUM_THREADS={asked}: {cap} threads are used, for {cores} cores")))
}

/// The number of threads, if fewer than were asked for.
fn capped(asked: usize, cores: usize) -> Option<usize> {
    let most = cores.saturating_mul(THREADS_PER_CORE).max(8);
    (asked > most).then_some(most)
}

/// Peak resident memory so far in MiB, where the system tells (Linux).
pub(crate) fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn threads_are_capped_at_a_multiple_of_the_cores() {
        assert_eq!(super::capped(0, 2), None);
        assert_eq!(super::capped(8, 2), None);
        assert_eq!(super::capped(1024, 2), Some(8));
        assert_eq!(super::capped(1024, 64), Some(256));
        assert_eq!(super::capped(usize::MAX, usize::MAX), None);
    }

    #[test]
    fn a_process_has_a_peak() {
        assert!(super::peak_rss_mb().is_some_and(|mb| mb > 0.1));
    }
}
