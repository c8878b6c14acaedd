//! `hbat data inspect`.

use std::io::{self, BufWriter, ErrorKind, Write};

use crate::args::Inspect;
use crate::data::{Codec, InspectError, InspectOptions, Paint, inspect};

pub(super) fn run(options: &Inspect) -> anyhow::Result<i32> {
    let codec = Codec::load(&options.model, options.reading.codec())?;
    let shown = InspectOptions { read: options.reading.read(None), examples: options.limit, paint: Paint::detect(&io::stdout()) };
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = inspect(&mut out, std::slice::from_ref(&options.file), &shown, &codec).and_then(|()| Ok(out.flush()?));
    match printed {
        // Whoever pipes into `head` has seen enough.
        Err(InspectError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(InspectError::Data(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(0),
    }
}
