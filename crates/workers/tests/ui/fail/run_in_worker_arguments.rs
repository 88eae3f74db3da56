use pytoweb_workers::run_in_worker;

#[run_in_worker]
fn no_name() {}

#[run_in_worker()]
fn empty() {}

#[run_in_worker("")]
fn empty_name() {}

#[run_in_worker(background)]
fn not_a_string() {}

#[run_in_worker("background", 4)]
fn too_much() {}

fn main() {}
