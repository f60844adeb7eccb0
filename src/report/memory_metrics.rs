//! Readings as metrics, for Prometheus.

use std::fmt;

use super::exposition::{Dialect, Exposition, Family};
use crate::cgroup::pressure::PressureScope;
use crate::monitor::Reading;

/// The pod that a container belongs to, as its engine says in annotations; empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// The container's name in it.
    pub container: String,
}

impl Pod {
    /// From annotations as containerd's CRI plug-in or CRI-O write them.
    #[must_use]
    pub fn of(annotations: &std::collections::BTreeMap<String, String>) -> Self {
        let find = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| annotations.get(*name));
            found.cloned().unwrap_or_default()
        };
        Self {
            namespace: find(["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
            name: find(["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
            container: find(["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]),
        }
    }
}

/// Pods by the names of their containers.
pub type Pods = std::collections::BTreeMap<String, Pod>;

/// A family of metrics, and its value in a reading.
struct Metric {
    family: Family,
    value: fn(&Reading) -> Option<Value>,
}

/// Bytes and counts are whole; times are not.
enum Value {
    Whole(u64),
    Seconds(f64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => write!(f, "{value}"),
            Self::Seconds(value) => write!(f, "{value}"),
        }
    }
}

const INFO: Family = Family {
    name: "rt_container_info",
    kind: "gauge",
    unit: "",
    help: "1 for each container, with the pod that it belongs to, if any.",
};

const LIMIT: &str = "rt_memory_limit_bytes";

fn bytes(name: &'static str, help: &'static str, value: fn(&Reading) -> Option<Value>) -> Metric {
    Metric { family: Family { name, kind: "gauge", unit: "bytes", help }, value }
}

fn metrics() -> [Metric; 8] {
    use Value::{Seconds, Whole};
    // The pressure of the whole host is no container's.
    fn own(reading: &Reading) -> Option<crate::cgroup::pressure::Pressure> {
        reading.pressure.filter(|_| reading.pressure_scope == Some(PressureScope::Cgroup))
    }
    [
        bytes("rt_memory_usage_bytes", "Memory charged to the container.", |r| Some(Whole(r.usage_bytes))),
        bytes("rt_memory_working_set_bytes", "Usage without idle page cache.", |r| {
            Some(Whole(r.working_set_bytes))
        }),
        bytes(LIMIT, "The tightest limit that binds; absent without one.", |r| r.limit_bytes.map(Whole)),
        bytes("rt_memory_peak_bytes", "The highest usage recorded.", |r| r.peak_bytes.map(Whole)),
        bytes("rt_memory_swap_bytes", "Memory of the container in swap.", |r| Some(Whole(r.swap_bytes))),
        Metric {
            family: Family {
                name: "rt_memory_oom_kills",
                kind: "counter",
                unit: "",
                help: "Processes of the container that were OOM-killed.",
            },
            value: |r| Some(Whole(r.oom_kills)),
        },
        Metric {
            family: Family {
                name: "rt_memory_pressure_some_seconds",
                kind: "counter",
                unit: "seconds",
                help: "Time in which some task of the container waited for memory.",
            },
            value: |r| {
                own(r).map(|p| Seconds(std::time::Duration::from_micros(p.some_total_us).as_secs_f64()))
            },
        },
        Metric {
            family: Family {
                name: "rt_memory_pressure_full_seconds",
                kind: "counter",
                unit: "seconds",
                help: "Time in which all tasks of the container waited for memory.",
            },
            value: |r| {
                own(r).map(|p| Seconds(std::time::Duration::from_micros(p.full_total_us).as_secs_f64()))
            },
        },
    ]
}

/// The exposition of these readings, each with the container's name and the pod it belongs to. An older text gives its
/// memory.
#[must_use]
pub fn exposition(dialect: Dialect, readings: &[(String, Reading)], pods: &Pods, older: String) -> String {
    let mut text = Exposition::reusing(dialect, older);
    text.family(INFO);
    let none = Pod::default();
    for (id, _) in readings {
        let pod = pods.get(id).unwrap_or(&none);
        let labels = [
            ("container", id.as_str()),
            ("namespace", &pod.namespace),
            ("pod", &pod.name),
            ("name", &pod.container),
        ];
        text.sample(&labels, 1);
    }
    for Metric { family, value } in metrics() {
        text.family(family);
        for (id, reading) in readings {
            let Some(value) = value(reading) else { continue };
            // Whose limit it is, where an ancestor binds: on the limit alone, so that no other series changes its name.
            let limiter = reading.limiter.as_deref().filter(|_| family.name == LIMIT).unwrap_or_default();
            text.sample(&[("container", id), ("limiter", limiter)], value);
        }
    }
    text.end()
}

#[cfg(test)]
mod tests {
    use super::super::monitor::tests::reading;
    use super::*;
    use crate::cgroup::pressure::Pressure;

    #[test]
    fn families_are_whole_and_the_end_is_marked() {
        let pressure = Pressure { some_total_us: 1_500_000, ..Pressure::default() };
        let full =
            Reading { pressure: Some(pressure), pressure_scope: Some(PressureScope::Cgroup), ..reading() };
        let unlimited = Reading { limit_bytes: None, ..reading() };
        let text = exposition(
            Dialect::OpenMetrics,
            &[("web".into(), full), ("free".into(), unlimited)],
            &Pods::new(),
            "what was before".into(),
        );
        assert!(
            text.contains("# TYPE rt_memory_usage_bytes gauge\n# UNIT rt_memory_usage_bytes bytes\n# HELP ")
        );
        assert!(text.contains("rt_memory_usage_bytes{container=\"web\"} 33554432\n"), "{text}");
        assert!(text.contains("rt_memory_oom_kills_total{container=\"web\"} 2\n"), "{text}");
        assert!(text.contains("rt_memory_pressure_some_seconds_total{container=\"web\"} 1.5\n"), "{text}");
        assert_eq!(text.matches("rt_memory_limit_bytes{").count(), 1, "none without a limit");
        assert_eq!(
            text.matches("pressure_some_seconds_total{").count(),
            1,
            "none where the kernel tells none"
        );
        assert!(text.ends_with("# EOF\n") && !text.contains("\n\n"));
    }

    #[test]
    fn a_limit_above_is_named_and_the_pressure_of_the_host_is_nobodys() {
        let above = Reading {
            limiter: Some("/pod".into()),
            pressure: Some(Pressure::default()),
            pressure_scope: Some(PressureScope::Host),
            ..reading()
        };
        let text = exposition(Dialect::OpenMetrics, &[("web".into(), above)], &Pods::new(), String::new());
        assert!(text.contains("rt_memory_limit_bytes{container=\"web\",limiter=\"/pod\"}"), "{text}");
        assert!(!text.contains("seconds_total{"), "{text}");
    }

    #[test]
    fn the_pod_is_told_as_its_engine_tells_it() {
        let annotations = |names: [&str; 3]| {
            let all = names.iter().zip(["shop", "cart-0", "cart"]);
            all.map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
        };
        for names in [
            [
                "io.kubernetes.cri.sandbox-namespace",
                "io.kubernetes.cri.sandbox-name",
                "io.kubernetes.cri.container-name",
            ],
            ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name"],
        ] {
            let pods = Pods::from([("c0ffee".to_owned(), Pod::of(&annotations(names)))]);
            let readings = [("c0ffee".to_owned(), reading()), ("web".to_owned(), reading())];
            let text = exposition(Dialect::Prometheus, &readings, &pods, String::new());
            let info = "rt_container_info{container=\"c0ffee\",namespace=\"shop\",pod=\"cart-0\",name=\"cart\"} 1\n\
                        rt_container_info{container=\"web\"} 1\n";
            assert!(text.contains(info), "{text}");
            assert!(text.contains("# TYPE rt_memory_oom_kills_total counter\n") && !text.contains("# EOF"));
        }
    }
}
