"""Amazon API Gateway (REST), by the settings of a stage's methods and by API keys."""

from actions.gateway.adapters.aws_api_gateway.adapter import AwsApiGateway

__all__ = ["AwsApiGateway"]
