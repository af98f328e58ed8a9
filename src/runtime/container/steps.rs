//! Where the runtime and the container's first process have to wait for each other before the
//! end of `create`. Both sides ask here, so that neither waits for what the other never says.

use crate::spec::{NamespaceKind, Spec};
use crate::state::State;

/// The meetings that one creation needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Steps {
    /// At the beginning: the runtime has something to do that only it has the right to.
    pub help: bool,
    /// Once the mounts are made: there are hooks, or a crash of the runtime must be noticed
    /// before there is one.
    pub hooks: bool,
}

impl Steps {
    /// Those of `spec`.
    #[must_use]
    pub fn of(spec: &Spec, state: &State) -> Self {
        let linux = spec.linux.as_ref();
        let process = spec.process.as_ref();
        let hooks = &spec.hooks;
        Self {
            help: state.cgroup.unit.is_some()
                || state.cgroup.rdt.is_some()
                || process.is_some_and(|process| process.oom_score_adj.is_some())
                || linux.is_some_and(|linux| {
                    linux.makes(NamespaceKind::User) || !linux.net_devices.is_empty()
                }),
            hooks: [
                &hooks.prestart,
                &hooks.create_runtime,
                &hooks.create_container,
            ]
            .into_iter()
            .any(|hooks| !hooks.is_empty()),
        }
    }
}
