use pytoweb_workers::worker;

struct Service;

#[worker]
impl Service {
    #[worker_method("by value")]
    fn by_value(self) {}

    #[worker_method("boxed")]
    fn boxed(self: Box<Self>) {}

    #[worker_method("none")]
    fn no_receiver(x: u64) -> u64 {
        x
    }

    #[worker_method("async")]
    async fn asynchronous(&self) {}

    #[worker_method("generic")]
    fn generic<T: Send>(&self, x: T) -> T {
        x
    }

    #[worker_method("two")]
    fn two_payloads(&self, a: u64, b: u64) -> u64 {
        a + b
    }

    #[worker_method("borrow")]
    fn borrow(&self, text: &str) -> &str {
        text
    }

    #[worker_method("two")]
    fn taken(&self) {}
}

fn main() {}
