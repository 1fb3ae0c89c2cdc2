"""AWS WAFv2, by a rule group of Firedoor's own that the operator's web ACL refers to."""

from actions.gateway.adapters.aws_waf.adapter import AwsWafGateway

__all__ = ["AwsWafGateway"]
