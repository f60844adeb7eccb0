//! `--version`: the lines that docker and podman parse.

use libseccomp::ScmpVersion;

/// The newest version of the OCI runtime specification that is understood.
pub const SPEC_VERSION: &str = "1.3.0";

/// The version of rt.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit rt was built from, if the build knew it.
pub const COMMIT: Option<&str> = option_env!("RT_COMMIT");

/// `major.minor.micro` of the libseccomp that is linked.
#[must_use]
pub fn libseccomp() -> Option<String> {
    let version = ScmpVersion::current().ok()?;
    Some(format!("{}.{}.{}", version.major, version.minor, version.micro))
}

/// One line each: the program's name and version, the commit, the specification, libseccomp.
#[must_use]
pub fn text(program: &str) -> String {
    let commit = COMMIT.unwrap_or("unknown");
    let mut text = format!("{program} version {VERSION}\ncommit: {commit}\nspec: {SPEC_VERSION}\n");
    if let Some(version) = libseccomp() {
        text.push_str(&format!("libseccomp: {version}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dockerd takes the text before the first and behind the last "version" of the line with that word.
    #[test]
    fn dockerd_finds_name_version_and_commit() {
        let text = text("rt");
        let with_version: Vec<_> = text.lines().filter(|line| line.contains("version")).collect();
        assert_eq!(with_version, [format!("rt version {VERSION}")]);
        assert!(text.lines().nth(1).unwrap().starts_with("commit: "));
        assert_eq!(text.lines().nth(2), Some("spec: 1.3.0"));
        let seccomp = text.lines().nth(3).unwrap().strip_prefix("libseccomp: ").unwrap();
        assert_eq!(seccomp.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3);
    }
}
