//! The part of a saved [`super::Cgroup`] that tells whether it is frozen, read without a copy of the rest: a list of thousands needs
//! no more.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::{Result, Version, freezer};

/// A cgroup that may be frozen.
#[derive(Deserialize)]
pub struct Glimpse<'a> {
    version: Version,
    #[serde(borrow)]
    hierarchies: Freezer<'a>,
}

impl Glimpse<'_> {
    /// As [`super::Cgroup::is_frozen`]. `above` is for the next one too.
    pub fn is_frozen(&self, above: &mut Above) -> Result<bool> {
        let dir = self.freezer();
        let own = if self.version == Version::V2 { freezer::FREEZE } else { freezer::SELF_FREEZING };
        if dir.is_some_and(|dir| above.says(dir, own, b"0\n")) {
            return Ok(false);
        }
        freezer::is_frozen(self.version, dir)
    }

    fn freezer(&self) -> Option<&Path> {
        let Freezer { first, freezer } = &self.hierarchies;
        let dir = if self.version == Version::V2 { first } else { freezer };
        dir.as_deref().map(Path::new)
    }
}

/// The folder above the cgroup that was asked last: those of a list mostly have the same, and the way to it is long.
#[derive(Debug, Default)]
pub struct Above(Option<(PathBuf, OwnedFd)>);

impl Above {
    /// Whether the file `name` of the folder `dir` can be read and has these few bytes.
    fn says(&mut self, dir: &Path, name: &str, wanted: &[u8]) -> bool {
        let (Some(parent), Some(own)) = (dir.parent(), dir.file_name()) else { return false };
        if self.0.as_ref().is_none_or(|(path, _)| path != parent) {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            self.0 = open(parent, flags, Mode::empty()).ok().map(|folder| (parent.to_owned(), folder));
        }
        let Some((_, folder)) = &self.0 else { return false };
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = openat(folder, &Path::new(own).join(name), flags, Mode::empty()).map(File::from);
        let mut text = [0; 16];
        file.is_ok_and(|mut file| file.read(&mut text).is_ok_and(|length| &text[..length] == wanted))
    }
}

/// Folders in hierarchies: of the first one, and of that with the freezer.
struct Freezer<'a> {
    first: Option<Cow<'a, str>>,
    freezer: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Hierarchy<'a> {
    #[serde(rename = "controllers", deserialize_with = "has_freezer")]
    freezes: bool,
    #[serde(borrow)]
    dir: Cow<'a, str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Freezer<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Hierarchies;
        impl<'de> Visitor<'de> for Hierarchies {
            type Value = Freezer<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hierarchies")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> std::result::Result<Freezer<'de>, A::Error> {
                let mut found = Freezer { first: None, freezer: None };
                while let Some(Hierarchy { freezes, dir }) = all.next_element()? {
                    if freezes && found.freezer.is_none() {
                        found.freezer = Some(dir.clone());
                    }
                    found.first.get_or_insert(dir);
                }
                Ok(found)
            }
        }
        from.deserialize_seq(Hierarchies)
    }
}

fn has_freezer<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<bool, D::Error> {
    struct Controllers;
    impl<'de> Visitor<'de> for Controllers {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("names of controllers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> std::result::Result<bool, A::Error> {
            let mut found = false;
            while let Some(Name(name)) = names.next_element()? {
                found |= name == "freezer";
            }
            Ok(found)
        }
    }
    from.deserialize_seq(Controllers)
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::super::Cgroup;
    use super::*;

    #[test]
    fn the_freezer_is_where_the_cgroup_has_it() {
        let hybrid = r#"{"version":"hybrid","hierarchies":[
            {"controllers":["cpu","cpuacct"],"mount":"/c","dir":"/c/box"},
            {"controllers":["freezer"],"mount":"/f","dir":"/f/b\u006fx"},
            {"controllers":[],"mount":"/u","dir":"/u/box"}],"rootless":false,"explicit":false,"preexisting":false}"#;
        let without = hybrid.replace("freezer", "pids");
        let v2 = hybrid.replace("hybrid", "v2");
        for text in [hybrid, &without, &v2] {
            let cgroup: Cgroup = serde_json::from_str(text).unwrap();
            let glimpse: Glimpse<'_> = serde_json::from_str(text).unwrap();
            assert_eq!(glimpse.freezer(), cgroup.path_of("freezer"), "{text}");
        }
        assert!(serde_json::from_str::<Glimpse<'_>>(&hybrid.replace("[\"freezer\"]", "7")).is_err());
    }

    #[test]
    fn each_cgroup_is_asked_itself() {
        let root = tempfile::tempdir().unwrap();
        let mut above = Above::default();
        let mut is_frozen = |name: &str| {
            let dir = root.path().join(name);
            let text = format!(
                r#"{{"version":"v1","hierarchies":[{{"controllers":["freezer"],"mount":"/f","dir":"{}"}}]}}"#,
                dir.display()
            );
            serde_json::from_str::<Glimpse<'_>>(&text).unwrap().is_frozen(&mut above).unwrap()
        };
        for (name, own, state) in [
            ("a/one", "0", "FROZEN"),
            ("a/two", "1", "FROZEN"),
            ("b/one", "1", "FROZEN"),
            ("b/two", "0", "FREEZING"),
        ] {
            let dir = root.path().join(name);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("freezer.self_freezing"), format!("{own}\n")).unwrap();
            std::fs::write(dir.join("freezer.state"), format!("{state}\n")).unwrap();
            assert_eq!(is_frozen(name), own == "1", "{name}");
        }
        assert!(!is_frozen("a/none") && !is_frozen("none/none"));
    }
}
