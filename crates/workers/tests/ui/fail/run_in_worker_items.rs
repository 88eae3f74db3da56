use pytoweb_workers::run_in_worker;

#[run_in_worker("background")]
struct NoFunction;

struct Service;

impl Service {
    #[run_in_worker("background")]
    fn method(&self, x: u64) -> u64 {
        x
    }
}

fn main() {}
