//! One test's own world: a `--root`, unique names, and the removal of everything that the test leaves.

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Bundle, Cgroup, Run, cgroup, left, wait_until};

#[derive(Debug)]
pub struct Sandbox {
    folder: TempDir,
    mark: String,
    ids: RefCell<Vec<String>>,
}

impl Sandbox {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new().prefix("rt-test-").tempdir().expect("a temporary folder");
        // User namespaces of containers look through it.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("mode 0755");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("RT_TEST_MARK={}-{count}", std::process::id());
        Self { folder, mark, ids: RefCell::new(Vec::new()) }
    }

    /// The runtime under test.
    pub fn binary() -> PathBuf {
        std::env::var_os("RT_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_rt")), PathBuf::from)
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside)
    }

    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// What rt keeps beside this root, as root: a path has `-` for `/` there.
    pub fn kept(&self) -> PathBuf {
        let root = self.folder.path().canonicalize().expect("the folder").join("root");
        let name =
            root.to_str().expect("UTF-8").replace('\\', "\\x5c").replace('-', "\\x2d").replace('/', "-");
        Path::new("/run/rt-kept").join(name)
    }

    /// The line that all processes of this sandbox have in their environment.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// A container's name that is unique on this machine; what it leaves is removed at the end.
    pub fn id(&self, name: &str) -> String {
        let mark = self.mark.split_once('=').map_or("", |(_, number)| number);
        let id = format!("rt-test-{mark}-{name}");
        self.ids.borrow_mut().push(id.clone());
        id
    }

    /// A new bundle with a folder of its own.
    pub fn bundle(&self) -> Bundle {
        let count = self.path("bundles").read_dir().map_or(0, Iterator::count);
        Bundle::new(&self.path(&format!("bundles/{count}")), &self.mark)
    }

    /// The runtime under test with this sandbox's `--root`.
    pub fn rt<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        self.bare(["--root".as_ref(), self.root().as_os_str()]).args(args)
    }

    /// The runtime under test without any flag added.
    pub fn bare<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let (key, value) = self.mark.split_once('=').expect("a mark");
        Run::new(Self::binary()).args(args).env(key, value).cwd(self.folder.path())
    }

    /// Saves the bundle, with a cgroup named as the container unless the test chose another, and returns its path as text.
    pub fn prepare(&self, bundle: &mut Bundle, id: &str) -> String {
        let path = bundle.config.pointer("/linux/cgroupsPath").and_then(Value::as_str);
        if path.is_none_or(|path| path.starts_with("/rt-test-")) {
            bundle.set("/linux/cgroupsPath", json!(format!("/{id}")));
        }
        bundle.save();
        bundle.path.to_str().expect("UTF-8").to_owned()
    }

    pub fn create_command(&self, bundle: &mut Bundle, id: &str) -> Run {
        let path = self.prepare(bundle, id);
        self.rt(["create", "--bundle", &path, id])
    }

    #[track_caller]
    pub fn create(&self, bundle: &mut Bundle, name: &str) -> String {
        let id = self.id(name);
        self.create_command(bundle, &id).ok();
        id
    }

    /// Creates and starts it.
    #[track_caller]
    pub fn start(&self, bundle: &mut Bundle, name: &str) -> String {
        let id = self.create(bundle, name);
        self.rt(["start", &id]).ok();
        id
    }

    /// The command of a foreground `run`.
    pub fn run_command(&self, bundle: &mut Bundle, name: &str) -> Run {
        let id = self.id(name);
        let path = self.prepare(bundle, &id);
        self.rt(["run", "--bundle", &path, &id])
    }

    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        self.rt(["state", id]).ok().json()
    }

    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().expect("a status").to_owned()
    }

    #[track_caller]
    pub fn wait_for_status(&self, id: &str, status: &str) {
        wait_until(&format!("{id} {status}"), || self.status(id) == status);
    }

    #[track_caller]
    pub fn pid(&self, id: &str) -> i64 {
        self.state(id)["pid"].as_i64().expect("a pid")
    }

    #[track_caller]
    pub fn cgroup(&self, id: &str, controller: &str) -> Cgroup {
        Cgroup::of(self.pid(id), controller).unwrap_or_else(|| panic!("no {controller} cgroup of {id}"))
    }

    /// Runs a shell script in a container.
    #[track_caller]
    pub fn exec(&self, id: &str, script: &str) -> super::Outcome {
        self.rt(["exec", id, "sh", "-c", script]).run()
    }

    #[track_caller]
    pub fn delete(&self, id: &str) {
        self.rt(["delete", "--force", id]).ok();
    }

    /// What is left of a container, in words; empty if nothing.
    pub fn leftovers(&self, id: &str) -> Vec<String> {
        let mut left = Vec::new();
        left.extend(cgroup::folders_named(id).iter().map(|f| format!("cgroup {}", f.display())));
        left.extend(
            left::processes_marked(&self.mark).iter().map(|p| format!("process {p} {}", command_line(*p))),
        );
        left.extend(left::mounts_below(self.folder.path()).iter().map(|m| format!("mount {}", m.display())));
        let state = self.root().join(id);
        if state.exists() {
            left.push(format!("state {}", state.display()));
        }
        left
    }

    #[track_caller]
    pub fn assert_nothing_left(&self, id: &str) {
        // A killed process may still be on its way out.
        let start = std::time::Instant::now();
        let mut left = self.leftovers(id);
        while !left.is_empty() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
            left = self.leftovers(id);
        }
        assert!(left.is_empty(), "left of {id}: {left:#?}");
    }
}

fn command_line(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for id in self.ids.borrow().iter() {
            if self.root().join(id).exists() {
                let deletion = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    self.rt(["delete", "--force", id]).time_limit(Duration::from_secs(10)).run()
                }));
                drop(deletion);
            }
        }
        left::kill_marked(&self.mark);
        for id in self.ids.borrow().iter() {
            left::remove_cgroups(id);
        }
        left::unmount_below(Path::new(self.folder.path()));
        let _ = std::fs::remove_dir_all(self.kept());
    }
}
