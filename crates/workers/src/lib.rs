//! Named background workers.
