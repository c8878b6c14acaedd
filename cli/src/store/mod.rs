//! What a run leaves on disk: its directory, checkpoints that survive a kill at any instant, the metrics log.
//!
//! Everything of more than one line is written aside, flushed to the disk, and renamed into place, so that a name is
//! either absent or whole. The exception is the metrics log, which grows line by line and is cut back on resume.

mod aside;
mod checkpoint;
mod error;
mod lock;
mod metrics;
mod run_dir;
mod tensor_file;

pub use checkpoint::{Checkpoint, CheckpointWriter, Latest, Refusal, SavedTensors, SetWriter, StoredSet};
pub use error::StoreError;
pub use metrics::{CutBack, MetricsLog};
pub use run_dir::{RunDir, fingerprint};
pub use tensor_file::{SaveDtype, TensorFile, TensorFileError};

pub(crate) use aside::{Aside, parent, replace_file, write_file};
pub(crate) use tensor_file::{TensorFileWriter, TensorSpec, hex, transposed};
