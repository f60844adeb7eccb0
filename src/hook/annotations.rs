//! The annotations of a container that ask for proofs.

use super::terms::{OnInconclusive, Policy, Stage};

/// What the annotations ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// [`TEST`]: a proof at this stage.
    pub test: Option<Stage>,
    /// [`STRESS`]: a stress at this stage.
    pub stress: Option<Stage>,
    pub policy: Option<Policy>,
    pub on_inconclusive: Option<OnInconclusive>,
    /// How much is written, in MiB.
    pub mb: Option<u64>,
    /// How long the proof may take.
    pub seconds: Option<u64>,
}

/// All of them begin with this.
pub const PREFIX: &str = "rt.memory.";
pub const TEST: &str = "rt.memory.test";
pub const STRESS: &str = "rt.memory.stress";
pub const POLICY: &str = "rt.memory.policy";
pub const ON_INCONCLUSIVE: &str = "rt.memory.on-inconclusive";
pub const MB: &str = "rt.memory.mb";
pub const SECONDS: &str = "rt.memory.seconds";

/// What `rt state` tells in annotations asks for nothing, so that its output can be handed on.
const TOLD: [&str; 6] = [
    "rt.memory.verdict",
    "rt.memory.verdict.at",
    "rt.memory.death",
    "rt.memory.death.certain",
    "rt.memory.peak",
    "rt.memory.oom-kills",
];

/// How CRI engines mark the container that only holds a pod's namespaces, and has no memory limit. The annotations of
/// the pod reach it too (containerd's `pod_annotations`).
const SANDBOX: [(&str, &str); 2] =
    [("io.kubernetes.cri.container-type", "sandbox"), ("io.kubernetes.cri-o.ContainerType", "sandbox")];

/// Whether the container is the sandbox of a pod.
pub fn is_sandbox<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> bool {
    all.into_iter().any(|pair| SANDBOX.contains(&pair))
}

/// An annotation that cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    #[error("annotation {name}={value:?} is not understood: allowed is {allowed}")]
    Value { name: String, value: String, allowed: String },
    #[error(
        "annotation {0} is not known: known are {TEST}, {STRESS}, {POLICY}, {ON_INCONCLUSIVE}, {MB}, {SECONDS}"
    )]
    Unknown(String),
}

impl Annotations {
    /// Reads those that concern memory from all annotations of a container.
    ///
    /// # Errors
    /// The first one that is not known, or has a value that is not allowed.
    pub fn read<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, AnnotationError> {
        let mut found = Self::default();
        for (name, value) in all.into_iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            match name {
                TEST => found.test = Some(word(name, value, Stage::ALLOWED)?),
                STRESS => found.stress = Some(word(name, value, Stage::ALLOWED)?),
                POLICY => found.policy = Some(word(name, value, Policy::ALLOWED)?),
                ON_INCONCLUSIVE => found.on_inconclusive = Some(word(name, value, OnInconclusive::ALLOWED)?),
                MB => found.mb = Some(number(name, value)?),
                SECONDS => found.seconds = Some(number(name, value)?),
                _ if TOLD.contains(&name) => {}
                _ => return Err(AnnotationError::Unknown(name.to_owned())),
            }
        }
        Ok(found)
    }

    /// The name of one that is there.
    pub fn any(&self) -> Option<&'static str> {
        let given = [
            (self.test.is_some(), TEST),
            (self.stress.is_some(), STRESS),
            (self.policy.is_some(), POLICY),
            (self.on_inconclusive.is_some(), ON_INCONCLUSIVE),
            (self.mb.is_some(), MB),
            (self.seconds.is_some(), SECONDS),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}

fn word<T: std::str::FromStr>(name: &str, value: &str, allowed: &[&str]) -> Result<T, AnnotationError> {
    value.parse().map_err(|_| not_understood(name, value, allowed.join(", ")))
}

/// A number that can be MiB or seconds.
fn number(name: &str, value: &str) -> Result<u64, AnnotationError> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| digits && (1..=u64::from(u32::MAX)).contains(number));
    number.ok_or_else(|| not_understood(name, value, "a whole number from 1".to_owned()))
}

fn not_understood(name: &str, value: &str, allowed: String) -> AnnotationError {
    AnnotationError::Value { name: name.to_owned(), value: value.to_owned(), allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_and_the_rest_is_left_alone() {
        let read = Annotations::read([
            ("org.example", "x"),
            (TEST, "prestart"),
            (STRESS, "poststart"),
            (POLICY, "enforce"),
            (ON_INCONCLUSIVE, "record"),
            (MB, "80"),
            (SECONDS, "2"),
            ("rt.memory.verdict", "enforced"),
        ]);
        let expected = Annotations {
            test: Some(Stage::Prestart),
            stress: Some(Stage::Poststart),
            policy: Some(Policy::Enforce),
            on_inconclusive: Some(OnInconclusive::Record),
            mb: Some(80),
            seconds: Some(2),
        };
        assert_eq!(read, Ok(expected));
        assert_eq!(Annotations::read([("rt.memory.death", "exited")]), Ok(Annotations::default()));
    }

    #[test]
    fn a_sandbox_is_told_from_a_container() {
        assert!(is_sandbox([("a", "b"), ("io.kubernetes.cri.container-type", "sandbox")]));
        assert!(is_sandbox([("io.kubernetes.cri-o.ContainerType", "sandbox")]));
        assert!(!is_sandbox([("io.kubernetes.cri.container-type", "container"), ("x", "sandbox")]));
    }

    #[test]
    fn a_mistake_is_named_with_what_is_allowed() {
        let wrong = |name, value| Annotations::read([(name, value)]).unwrap_err().to_string();
        assert_eq!(
            wrong(TEST, "startContainer"),
            "annotation rt.memory.test=\"startContainer\" is not understood: allowed is prestart, createRuntime, poststart"
        );
        assert!(wrong(POLICY, "").contains("record, enforce"));
        assert!(wrong(MB, "+5").contains("a whole number from 1"));
        assert!(wrong(SECONDS, "0").contains("a whole number from 1"));
        assert!(wrong("rt.memory.tset", "prestart").starts_with("annotation rt.memory.tset is not known"));
    }
}
