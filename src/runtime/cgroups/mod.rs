//! Writing side of cgroups: create, limit, join, freeze, update, delete.
