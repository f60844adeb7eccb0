//! What a container process is given before exec: capabilities, rlimits, scheduler and the like. One idea a
//! file; each is called by the init or exec process itself, or by its parent where the file says so. The words
//! of errors are runc's.

pub mod affinity;
pub mod apparmor;
pub mod capabilities;
pub mod cwd;
pub mod descriptors;
pub mod env;
pub mod id_list;
pub mod identity;
pub mod io_priority;
pub mod keyring;
pub mod memory_policy;
pub mod oom_score_adj;
pub mod personality;
mod proc_root;
pub mod program;
pub mod reason;
pub mod rlimits;
pub mod scheduler;
pub mod selinux;
pub mod sysctl;
pub mod umask;
pub mod user;

#[cfg(test)]
mod tests;
