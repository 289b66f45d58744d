//! What is known of a file and of a batch: records as they are on the disk, and what clients see of them.
use crate::id;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

/// The purpose of files that clients bring.
pub const BATCH: &str = "batch";
/// The purpose of files that batches make.
pub const BATCH_OUTPUT: &str = "batch_output";

/// A file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub id: String,
    /// The name of the key that made it; empty where none is asked for.
    pub owner: String,
    /// Later ones have higher ones.
    pub sequence: u64,
    pub bytes: u64,
    pub created_at: u64,
    /// As the client called it; no name on this disk.
    pub filename: String,
    pub purpose: String,
}

impl Kept {
    /// As clients see it.
    pub fn show(&self) -> Value {
        json!({
            "id": self.id, "object": "file", "bytes": self.bytes, "created_at": self.created_at, "expires_at": null,
            "filename": self.filename, "purpose": self.purpose, "status": "processed", "status_details": null,
        })
    }
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Validating,
    Failed,
    InProgress,
    Finalizing,
    Completed,
    Expired,
    Cancelling,
    Cancelled,
}

impl Status {
    /// The API's word.
    pub fn name(self) -> &'static str {
        match self {
            Status::Validating => "validating",
            Status::Failed => "failed",
            Status::InProgress => "in_progress",
            Status::Finalizing => "finalizing",
            Status::Completed => "completed",
            Status::Expired => "expired",
            Status::Cancelling => "cancelling",
            Status::Cancelled => "cancelled",
        }
    }

    /// Nothing changes any more.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Failed | Status::Completed | Status::Expired | Status::Cancelled)
    }
}

/// Why a batch has no further lines to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Completed,
    Failed,
    Expired,
    Cancelled,
}

/// What is wrong with a line of the input; line 1 is the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineError {
    pub code: String,
    pub line: Option<u64>,
    pub message: String,
    pub param: Option<String>,
}

/// Lines that have an answer, and those that have an error.
#[derive(Debug, Default)]
pub struct Counts {
    pub completed: AtomicU64,
    pub failed: AtomicU64,
}

/// A batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Batch {
    pub id: String,
    /// The name of the key that made it; empty where none is asked for.
    pub owner: String,
    /// Later ones have higher ones.
    pub sequence: u64,
    pub endpoint: String,
    pub input_file_id: String,
    pub metadata: Option<BTreeMap<String, String>>,
    pub status: Status,
    /// Its lines are done with; what is left is to make files of what they brought.
    pub ending: Option<Ending>,
    pub errors: Vec<LineError>,
    /// Drawn before the file is there; clients see it after.
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    pub created_at: u64,
    pub expires_at: u64,
    pub in_progress_at: Option<u64>,
    pub finalizing_at: Option<u64>,
    pub completed_at: Option<u64>,
    pub failed_at: Option<u64>,
    pub expired_at: Option<u64>,
    pub cancelling_at: Option<u64>,
    pub cancelled_at: Option<u64>,
    pub total: u64,
    /// As of the end; before it the journals tell.
    pub completed: u64,
    pub failed: u64,
    #[serde(skip)]
    pub counts: Arc<Counts>,
}

/// The only window that the API documents, in seconds.
const WINDOW: u64 = 24 * 3600;

impl Batch {
    /// A batch that begins now.
    pub fn new(owner: &str, endpoint: String, input: String, metadata: Option<BTreeMap<String, String>>) -> Batch {
        let now = id::now_s();
        Batch {
            id: id::random("batch_"),
            owner: owner.to_string(),
            sequence: 0,
            endpoint,
            input_file_id: input,
            metadata,
            status: Status::Validating,
            ending: None,
            errors: Vec::new(),
            output_file_id: None,
            error_file_id: None,
            created_at: now,
            expires_at: now + WINDOW,
            in_progress_at: None,
            finalizing_at: None,
            completed_at: None,
            failed_at: None,
            expired_at: None,
            cancelling_at: None,
            cancelled_at: None,
            total: 0,
            completed: 0,
            failed: 0,
            counts: Arc::default(),
        }
    }

    /// Files that it makes.
    pub fn results(&self) -> impl Iterator<Item = &String> {
        self.output_file_id.iter().chain(&self.error_file_id)
    }

    /// Counts as they were written.
    pub fn restore(&mut self) {
        self.counts = Arc::new(Counts { completed: self.completed.into(), failed: self.failed.into() });
    }

    /// No further lines are answered; `written` says whether there are answers, and errors.
    pub fn end(&mut self, ending: Ending, written: [bool; 2]) {
        self.ending = Some(ending);
        self.output_file_id = written[0].then(|| id::random("file-"));
        self.error_file_id = written[1].then(|| id::random("file-"));
        (self.completed, self.failed) = (self.counts.completed.load(SeqCst), self.counts.failed.load(SeqCst));
        // A batch that is being cancelled says so to its end, and one that fails has nothing to be made final.
        if matches!(ending, Ending::Completed | Ending::Expired) {
            (self.status, self.finalizing_at) = (Status::Finalizing, Some(id::now_s()));
        }
    }

    /// Its files are there.
    pub fn finish(&mut self) {
        let now = Some(id::now_s());
        match self.ending {
            Some(Ending::Completed) | None => (self.status, self.completed_at) = (Status::Completed, now),
            Some(Ending::Failed) => (self.status, self.failed_at) = (Status::Failed, now),
            Some(Ending::Expired) => (self.status, self.expired_at) = (Status::Expired, now),
            Some(Ending::Cancelled) => (self.status, self.cancelled_at) = (Status::Cancelled, now),
        }
    }

    /// As clients see it.
    pub fn show(&self) -> Value {
        let errors = (!self.errors.is_empty()).then(|| json!({ "object": "list", "data": self.errors }));
        let ready = |file: &Option<String>| file.clone().filter(|_| self.status.is_final());
        json!({
            "id": self.id, "object": "batch", "endpoint": self.endpoint, "errors": errors,
            "input_file_id": self.input_file_id, "completion_window": "24h", "status": self.status.name(),
            "output_file_id": ready(&self.output_file_id), "error_file_id": ready(&self.error_file_id),
            "created_at": self.created_at, "in_progress_at": self.in_progress_at, "expires_at": self.expires_at,
            "finalizing_at": self.finalizing_at, "completed_at": self.completed_at, "failed_at": self.failed_at,
            "expired_at": self.expired_at, "cancelling_at": self.cancelling_at, "cancelled_at": self.cancelled_at,
            "request_counts": {
                "total": self.total,
                "completed": self.counts.completed.load(SeqCst),
                "failed": self.counts.failed.load(SeqCst),
            },
            "metadata": self.metadata,
        })
    }
}
