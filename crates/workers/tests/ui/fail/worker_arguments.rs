use pytoweb_workers::worker;

struct Service;

#[worker("name")]
impl Service {
    #[worker_method("job")]
    fn job(&self) {}
}

struct Other;

#[worker]
impl Other {
    #[worker_method]
    fn no_kind(&self) {}

    #[worker_method("")]
    fn empty_kind(&self) {}

    #[worker_method(job)]
    fn not_a_string(&self) {}

    #[worker_method("a", "b")]
    fn two_kinds(&self) {}

    #[worker_method("c")]
    #[worker_method("d")]
    fn two_marks(&self) {}
}

fn main() {}
