//! The machine's own root file system for a container that needs more than busybox.

use std::path::PathBuf;

use super::{Run, Sandbox};

/// The machine's root, without what is mounted below it, under a layer that takes what is written.
#[derive(Debug)]
pub struct Layer(pub PathBuf);

impl Layer {
    #[track_caller]
    pub fn new(sandbox: &Sandbox) -> Self {
        let folder = |name: &str| {
            let path = sandbox.path(name);
            std::fs::create_dir_all(&path).expect("a folder");
            path
        };
        let (upper, work, root) = (folder("upper"), folder("work"), folder("root-of-machine"));
        let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        Run::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&root).ok();
        Self(root)
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        let _ = Run::new("umount").arg("-l").arg(&self.0).run();
    }
}
