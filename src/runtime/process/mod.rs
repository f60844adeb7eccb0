//! What a container process is given before exec: capabilities, rlimits, scheduler and the like.
