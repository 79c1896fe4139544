//! Communicators: the trait, ranks as threads, reproducible reduction, agreement, failure reports

