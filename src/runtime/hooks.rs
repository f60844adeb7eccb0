//! Hooks of the OCI spec: order, environment, timeouts.
