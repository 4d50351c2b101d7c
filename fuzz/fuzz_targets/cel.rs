//! CEL: parser, checker, estimate and evaluation, within the limits of one expression.
#![no_main]

use libfuzzer_sys::fuzz_target;

struct Nothing;

impl<'a> celx::Activation<'a> for Nothing {
    fn global(&self, _: usize) -> Result<celx::Value<'a>, celx::Error> {
        Ok(celx::Value::Null)
    }
}

fuzz_target!(|source: &str| {
    let env = celx::Env::new();
    let Ok(program) = env.compile(source) else { return };
    let mut meter = celx::Meter::new(10_000);
    let _ = program.eval(&Nothing, &mut meter);
});
