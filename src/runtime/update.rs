//! Changing the limits of a container that is there: all of it or nothing, and never unknown to the record.
//!
//! First the record says what the control files say now; then they are written; then the record says what is asked for, and no
//! more what was. So a file that is refused, a record that cannot be written, and an end in between are all set back:
//! by this update, or where it was killed by the next one.

use oci_spec::runtime::LinuxResources;

use super::cgroups::merge_resources;
use super::container::Container;
use super::error::Result;

/// Writes what `change` gives to the container's cgroup, and remembers it. The container is locked.
///
/// # Errors
/// Something cannot be set, or the record cannot be written. All is as it was, or a warning says that it is not.
pub fn update(container: &mut Container, change: &LinuxResources) -> Result<()> {
    let asked = container.asked_resources().cloned().unwrap_or_default();
    let cgroup = container.cgroup().clone();
    if let Some(before) = container.record().undo.clone() {
        tracing::warn!("an update was cut short: what it changed is set back first");
        cgroup.set_back(&before, &asked)?;
    }
    let planned = cgroup.plan_update(change, &asked)?;
    let before = cgroup.before(&planned);
    container.record_mut().undo = Some(before.clone());
    container.save()?;
    let mut merged = asked.clone();
    merge_resources(&mut merged, &planned);
    let written = cgroup.update(&planned).map_err(Into::into).and_then(|()| {
        container.record_mut().undo = None;
        container.set_asked_resources(&merged);
        container.save()
    });
    let Err(error) = written else { return Ok(()) };
    container.record_mut().asked = Some(asked.clone());
    match cgroup.set_back(&before, &asked) {
        Ok(()) => {
            container.record_mut().undo = None;
            // The record of before knows what to set back; that this is done already does no harm.
            if let Err(second) = container.save() {
                tracing::debug!("{second}");
            }
        }
        Err(second) => {
            tracing::warn!("setting back cgroup configs failed: {second}; the next update tries it again");
        }
    }
    Err(error)
}
