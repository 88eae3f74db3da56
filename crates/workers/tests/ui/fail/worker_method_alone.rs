use pytoweb_workers::worker_method;

struct Service;

impl Service {
    #[worker_method("job")]
    fn job(&self) {}
}

fn main() {}
