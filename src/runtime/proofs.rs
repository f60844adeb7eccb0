//! The proofs that a container has to go through when it is made or started: what the node and its annotations ask for
//! becomes a hook of rt's own, the last of its stage.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Hooks, LinuxResources, Spec};

use super::error::{Result, RuntimeError};
use super::node::{FILE, Node};
use crate::hook::annotations::{self, Annotations};
use crate::hook::listed::{INSIDE, SUBCOMMAND, kind_of, lists};
use crate::hook::{Kind, OnInconclusive, Policy, Stage, deadline};

/// The file of cgroup v2 that makes one OOM kill take the whole container.
const OOM_GROUP: &str = "memory.oom.group";

/// A proof to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    kind: Kind,
    stage: Stage,
    policy: Policy,
    on_inconclusive: OnInconclusive,
    mb: Option<u64>,
    seconds: u64,
}

impl Proof {
    /// What is to be proved of this container.
    ///
    /// # Errors
    /// An annotation cannot be obeyed, or a hook stands where a proof cannot be made.
    pub fn asked(spec: &Spec, node: &Node) -> Result<Vec<Self>> {
        let all = || spec.annotations().iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()));
        let sandbox = annotations::is_sandbox(all());
        let mut asked = Annotations::read(all()).map_err(RuntimeError::invalid)?;
        let hooked = spec.hooks().as_ref().map_or(Ok(Vec::new()), kinds_hooked)?;
        if let Some(name) = asked.any().filter(|_| !node.allow_annotations) {
            return Err(RuntimeError::Invalid(format!(
                "annotation {name} is not allowed on this node (allow_annotations in {FILE})"
            )));
        }
        if let Some(seconds) = asked.seconds.filter(|seconds| *seconds > node.max_seconds) {
            let (name, most) = (annotations::SECONDS, node.max_seconds);
            return Err(RuntimeError::Invalid(format!(
                "annotation {name}=\"{seconds}\" is too long: this node allows up to {most} s"
            )));
        }
        // What a pod asks is meant for its containers.
        if sandbox {
            asked = Annotations::default();
        }
        let by_node = node.proof.filter(|_| node.sandboxes || !sandbox).map(|by_node| Self {
            kind: Kind::TestMemory,
            stage: by_node.stage,
            // A container may ask for more than the node does, never for less.
            policy: by_node.policy.max(asked.policy.unwrap_or_default()),
            on_inconclusive: node.on_inconclusive,
            mb: None,
            seconds: node.max_seconds,
        });
        // The hook of a config reads the annotations itself.
        let by_annotation = [(Kind::TestMemory, asked.test), (Kind::StressMemory, asked.stress)]
            .into_iter()
            .filter(|(kind, _)| !hooked.contains(kind) && by_node.is_none_or(|node| node.kind != *kind))
            .filter_map(|(kind, stage)| Some((kind, stage?)))
            .map(|(kind, stage)| Self {
                kind,
                stage,
                policy: asked.policy.unwrap_or_default(),
                on_inconclusive: asked.on_inconclusive.unwrap_or_default(),
                mb: asked.mb,
                seconds: asked.seconds.unwrap_or(node.max_seconds),
            });
        let all: Vec<_> = by_node.into_iter().chain(by_annotation).collect();
        match asked.any() {
            Some(name) if all.is_empty() && hooked.is_empty() => Err(RuntimeError::Invalid(format!(
                "annotation {name} has nothing to act on without {} or {}",
                annotations::TEST,
                annotations::STRESS
            ))),
            _ => Ok(all),
        }
    }

    /// The hook that makes it, for a container in the state folder `root`.
    fn hook(self, root: &Path) -> Hook {
        let mut args = vec!["rt".to_owned(), "--root".to_owned(), root.display().to_string()];
        args.extend([SUBCOMMAND, self.kind.name()].map(str::to_owned));
        args.push(format!("--policy={}", self.policy));
        args.push(format!("--on-inconclusive={}", self.on_inconclusive));
        args.push(format!("--seconds={}", self.seconds));
        args.extend(self.mb.map(|mb| format!("--mb={mb}")));
        let mut hook = Hook::default();
        // Whatever runs this now: the file may have gone, or be another one.
        hook.set_path(PathBuf::from("/proc/self/exe"))
            .set_args(Some(args))
            .set_timeout(Some(deadline::timeout_for(self.seconds)));
        hook
    }
}

/// What hooks of the config make already.
fn kinds_hooked(hooks: &Hooks) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for (stage, list) in lists(hooks) {
        let of_list = list.iter().filter_map(kind_of).map(|(kind, _)| kind);
        let before = kinds.len();
        kinds.extend(of_list);
        if kinds.len() > before && (INSIDE.contains(&stage) || stage == "poststop") {
            return Err(RuntimeError::Invalid(format!(
                "a memory proof cannot be a {stage} hook: allowed is {}",
                Stage::ALLOWED.join(", ")
            )));
        }
    }
    Ok(kinds)
}

/// Puts the proofs that are asked for into the config, and tells hooks that make one where the container's state is.
pub fn arrange(spec: &mut Spec, proofs: &[Proof], root: &Path) {
    if let Some(hooks) = spec.hooks_mut() {
        tell_root(hooks.prestart_mut(), root);
        tell_root(hooks.create_runtime_mut(), root);
        tell_root(hooks.poststart_mut(), root);
    }
    for proof in proofs {
        let hooks = spec.hooks_mut().get_or_insert_with(Hooks::default);
        let list = match proof.stage {
            Stage::Prestart => hooks.prestart_mut(),
            Stage::CreateRuntime => hooks.create_runtime_mut(),
            Stage::Poststart => hooks.poststart_mut(),
        };
        list.get_or_insert_with(Vec::new).push(proof.hook(root));
    }
}

fn tell_root(list: &mut Option<Vec<Hook>>, root: &Path) {
    for hook in list.iter_mut().flatten() {
        let Some((_, at)) = kind_of(hook) else { continue };
        if let Some(args) = hook.args_mut()
            && !args.iter().take(at).any(|arg| arg.starts_with("--root") || arg.starts_with("-root"))
        {
            args.splice(1..1, ["--root".to_owned(), root.display().to_string()]);
        }
    }
}

/// Whether a proof is made before the container starts.
pub fn is_proved_at_create(spec: &Spec) -> bool {
    let ours = |list: &Option<Vec<Hook>>| list.iter().flatten().any(|hook| kind_of(hook).is_some());
    spec.hooks().as_ref().is_some_and(|hooks| ours(hooks.prestart()) || ours(hooks.create_runtime()))
}

/// Takes memory.oom.group out of the limits: with it, the OOM kill of a proof would take the container as well.
pub fn without_oom_group(resources: &LinuxResources) -> Option<(LinuxResources, HashMap<String, String>)> {
    let value = resources.unified().as_ref()?.get(OOM_GROUP)?.clone();
    let mut rest = resources.clone();
    if let Some(unified) = rest.unified_mut() {
        unified.remove(OOM_GROUP);
    }
    Some((rest, HashMap::from([(OOM_GROUP.to_owned(), value)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).unwrap()
    }

    fn asked(json: &str, node: &Node) -> Vec<Proof> {
        Proof::asked(&spec(json), node).unwrap()
    }

    #[test]
    fn what_is_asked_becomes_the_last_hook_of_its_stage() {
        let mut config = spec(
            r#"{"ociVersion":"1.0.2","annotations":{"rt.memory.test":"prestart","rt.memory.mb":"70"},
                "hooks":{"prestart":[{"path":"/network"}]}}"#,
        );
        let proofs = Proof::asked(&config, &Node::default()).unwrap();
        arrange(&mut config, &proofs, Path::new("/run/rt"));
        let hooks = config.hooks().as_ref().unwrap().prestart().as_ref().unwrap();
        assert_eq!(hooks.len(), 2);
        let line = hooks[1].args().as_ref().unwrap().join(" ");
        let expected =
            "rt --root /run/rt hook test-memory --policy=record --on-inconclusive=fail --seconds=5 --mb=70";
        assert_eq!(line, expected);
        assert_eq!(hooks[1].timeout(), Some(7));
        assert!(is_proved_at_create(&config));
    }

    #[test]
    fn a_container_can_ask_for_more_than_the_node_and_not_for_less() {
        let node = Node { proof: "prestart:record".parse().ok(), ..Node::default() };
        let by = |annotations: &str| {
            asked(&format!(r#"{{"ociVersion":"1.0.2","annotations":{annotations}}}"#), &node)[0]
        };
        let plain = by("{}");
        assert_eq!((plain.stage, plain.policy), (Stage::Prestart, Policy::Record));
        assert_eq!(by(r#"{"rt.memory.policy":"enforce"}"#).policy, Policy::Enforce);
        let weaker =
            r#"{"rt.memory.test":"poststart","rt.memory.mb":"1","rt.memory.on-inconclusive":"record"}"#;
        assert_eq!(by(weaker), plain);
    }

    #[test]
    fn a_pod_asks_for_its_containers_and_not_for_its_sandbox() {
        let of = |kind: &str, node: &Node| {
            let text = format!(
                r#"{{"ociVersion":"1.0.2","annotations":{{"rt.memory.test":"poststart","rt.memory.policy":"enforce",
                    "io.kubernetes.cri.container-type":"{kind}"}}}}"#
            );
            asked(&text, node).iter().map(|proof| (proof.stage, proof.policy)).collect::<Vec<_>>()
        };
        let plain = Node::default();
        assert_eq!(of("container", &plain), [(Stage::Poststart, Policy::Enforce)]);
        assert_eq!(of("sandbox", &plain), []);
        let strict = Node { proof: "prestart:record".parse().ok(), ..Node::default() };
        assert_eq!(of("sandbox", &strict), [(Stage::Prestart, Policy::Record)]);
        let kubernetes = Node { sandboxes: false, ..strict };
        assert_eq!(of("sandbox", &kubernetes), []);
        assert_eq!(of("container", &kubernetes), [(Stage::Prestart, Policy::Enforce)]);
    }

    #[test]
    fn a_hook_of_the_config_proves_in_place_of_the_annotation_and_is_told_the_root() {
        let mut config = spec(
            r#"{"ociVersion":"1.0.2","annotations":{"rt.memory.test":"prestart"},
                "hooks":{"createRuntime":[{"path":"/rt","args":["rt","hook","test-memory"]},
                                          {"path":"/rt","args":["rt","--root=/x","hook","test-memory"]}]}}"#,
        );
        let proofs = Proof::asked(&config, &Node::default()).unwrap();
        assert!(proofs.is_empty());
        arrange(&mut config, &proofs, Path::new("/r"));
        let hooks = config.hooks().as_ref().unwrap();
        assert!(hooks.prestart().is_none());
        let line = |n: usize| hooks.create_runtime().as_ref().unwrap()[n].args().clone().unwrap().join(" ");
        assert_eq!(line(0), "rt --root /r hook test-memory");
        assert_eq!(line(1), "rt --root=/x hook test-memory");
    }

    #[test]
    fn a_proof_and_a_stress_can_be_asked_for_together() {
        let text = r#"{"ociVersion":"1.0.2","annotations":{"rt.memory.test":"prestart","rt.memory.stress":"poststart"}}"#;
        let kinds = |node: &Node| asked(text, node).iter().map(|p| (p.kind, p.stage)).collect::<Vec<_>>();
        let both = [(Kind::TestMemory, Stage::Prestart), (Kind::StressMemory, Stage::Poststart)];
        assert_eq!(kinds(&Node::default()), both);
        let node = Node { proof: "createRuntime:record".parse().ok(), ..Node::default() };
        assert_eq!(kinds(&node), [(Kind::TestMemory, Stage::CreateRuntime), both[1]]);
    }

    #[test]
    fn nothing_is_added_where_nothing_is_asked() {
        let text = r#"{"ociVersion":"1.0.2","annotations":{"org.example":"x"},"hooks":{"prestart":[{"path":"/a"}]}}"#;
        let mut config = spec(text);
        let proofs = Proof::asked(&config, &Node::default()).unwrap();
        arrange(&mut config, &proofs, Path::new("/r"));
        assert_eq!(config, spec(text));
        assert!(!is_proved_at_create(&config));
    }

    #[test]
    fn group_kills_wait_until_the_proof_is_made() {
        let of = |unified: &str| {
            let resources: LinuxResources =
                serde_json::from_str(&format!(r#"{{"pids":{{"limit":9}},"unified":{unified}}}"#)).unwrap();
            without_oom_group(&resources)
        };
        let (rest, later) = of(r#"{"memory.oom.group":"1","memory.high":"9"}"#).unwrap();
        assert_eq!(rest.unified().as_ref().unwrap().len(), 1);
        assert!(rest.pids().is_some());
        assert_eq!(later, HashMap::from([(OOM_GROUP.to_owned(), "1".to_owned())]));
        assert!(of(r#"{"memory.high":"9"}"#).is_none());
    }
}
