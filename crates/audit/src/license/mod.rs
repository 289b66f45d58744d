//! Licences: which one a model is under, what it lets one do and demands, and whether a policy accepts that.
//!
//! Owns: texts ([`identify()`]), names and cards, terms as data, inheritance, policies. This is a reading of facts by
//! a program and no legal advice.
mod align;
pub mod card;
mod identify;
pub mod names;
mod origin;
pub mod policy;
mod report;
mod residue;
mod sources;
pub mod template;
pub mod terms;
pub mod words;

pub use identify::{Identified, Part, Resemblance, TEXT_MAX, identify};
pub use origin::Origin;
pub use policy::{Decision, Policy, Verdict};
pub use report::{Base, How, NO_ADVICE, Report, Source, Term, report, report_of, report_of_files};
