//! Containers that run while something is measured.

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::lives::read_pid;
use crate::runtimes::Runtime;
use crate::setting::{Bundle, Setting};

/// Callers at once while they are made and deleted.
const CALLERS: usize = 4;

/// Running containers of one runtime; deleted when dropped.
#[derive(Debug)]
pub struct Held<'a> {
    setting: &'a Setting,
    runtime: &'a Runtime,
    pub ids: Vec<String>,
    pub inits: Vec<Pid>,
}

impl<'a> Held<'a> {
    pub fn start(setting: &'a Setting, runtime: &'a Runtime, bundle: &Bundle, count: usize) -> Self {
        let ids: Vec<String> = (0..count).map(|n| setting.id(runtime, format_args!("held-{n}"))).collect();
        let path = bundle.path.display().to_string();
        let inits = in_parallel(&ids, |id| {
            let file = setting.file(&format!("pid-{id}"));
            setting.milliseconds(
                runtime,
                &["create", "--bundle", &path, "--pid-file", &file.display().to_string(), id],
            );
            setting.milliseconds(runtime, &["start", id]);
            read_pid(&file).unwrap_or_else(|e| panic!("{}: {e}", runtime.label))
        });
        Self { setting, runtime, ids, inits }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // At once, and waited for here: delete alone would poll for each.
        for &init in &self.inits {
            let _ = kill(init, Signal::SIGKILL);
        }
        for &init in &self.inits {
            let _ = waitpid(init, None);
        }
        in_parallel(&self.ids, |id| {
            if let Err(error) = self.setting.step(self.runtime, &["delete", "--force", id]) {
                eprintln!("{error}");
            }
        });
    }
}

/// What `work` returned for each, in their order.
fn in_parallel<T: Send>(ids: &[String], work: impl Fn(&str) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let caller = || {
        let mut done = Vec::new();
        while let n = next.fetch_add(1, Ordering::Relaxed)
            && let Some(id) = ids.get(n)
        {
            done.push((n, work(id)));
        }
        done
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().flat_map(|c| c.join().expect("a caller")).collect()
    });
    all.sort_by_key(|(n, _)| *n);
    all.into_iter().map(|(_, result)| result).collect()
}
