"""Does a generator copy its training patients? `audit_privacy` looks, `AuditReport` is the result."""

from medgan.evaluation.privacy.audit import audit_privacy
from medgan.evaluation.privacy.authenticity import Authenticity, authenticity
from medgan.evaluation.privacy.copies import CopyRate, class_weights, fewest_patients, measure_copies
from medgan.evaluation.privacy.data_copying import DataCopying, data_copying
from medgan.evaluation.privacy.membership import Membership, infer_membership, membership_scores
from medgan.evaluation.privacy.page import make_page, summarise_audit, write_audit
from medgan.evaluation.privacy.records import AuditReport, Finding, Pair, SpaceResult, Subgroup

__all__ = [
    "AuditReport",
    "Authenticity",
    "CopyRate",
    "DataCopying",
    "Finding",
    "Membership",
    "Pair",
    "SpaceResult",
    "Subgroup",
    "audit_privacy",
    "authenticity",
    "class_weights",
    "data_copying",
    "fewest_patients",
    "infer_membership",
    "make_page",
    "measure_copies",
    "membership_scores",
    "summarise_audit",
    "write_audit",
]
