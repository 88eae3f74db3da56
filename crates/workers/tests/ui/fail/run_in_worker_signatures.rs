use pytoweb_workers::run_in_worker;

#[run_in_worker("background")]
async fn asynchronous(x: u64) -> u64 {
    x
}

#[run_in_worker("background")]
fn generic<T: Send>(x: T) -> T {
    x
}

#[run_in_worker("background")]
fn borrowing<'a>(text: &'a str) -> &'a str {
    text
}

#[run_in_worker("background")]
fn nested(texts: Vec<&str>, tell: impl Fn()) -> usize {
    tell();
    texts.len()
}

#[run_in_worker("background")]
unsafe fn dangerous() {}

#[run_in_worker("background")]
const fn constant() {}

#[run_in_worker("background")]
extern "C" fn foreign() {}

fn main() {}
