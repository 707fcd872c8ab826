package exchange

import (
	"regexp"
	"strings"
)

// signedAs are the services that sign with another name than their hosts have.
var signedAs = map[string]string{
	"email": "ses", "bedrock-runtime": "bedrock", "bedrock-agent": "bedrock", "bedrock-agent-runtime": "bedrock",
	"api.ecr": "ecr", "dkr.ecr": "ecr", "runtime.sagemaker": "sagemaker", "api.sagemaker": "sagemaker", "streams.dynamodb": "dynamodb",
	"data.iot": "iotdata", "queue": "sqs", "s3-accesspoint": "s3", "s3-control": "s3", "dualstack": "s3", "metering.marketplace": "aws-marketplace",
	"runtime.lex": "lex", "entitlement.marketplace": "aws-marketplace", "api.pricing": "pricing",
}

// awsGlobal are the services without a region in their hosts' names, and the one
// they sign for.
var awsGlobal = map[string]string{
	"iam": "us-east-1", "sts": "us-east-1", "s3": "us-east-1", "route53": "us-east-1", "cloudfront": "us-east-1", "organizations": "us-east-1",
	"health": "us-east-1", "support": "us-east-1", "waf": "us-east-1", "shield": "us-east-1", "importexport": "us-east-1",
}

var awsRegion = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`) // eu-west-1, us-gov-west-1

// awsScope reads the region and service out of a host's name; what it does not say
// is empty. Of a wildcard it is the name below which the hosts are.
// https://docs.aws.amazon.com/general/latest/gr/rande.html
func awsScope(name string) (region, service string) {
	if rest, found := strings.CutSuffix(name, ".on.aws"); found { // ID.lambda-url.REGION.on.aws
		labels := strings.Split(rest, ".")
		if n := len(labels); n >= 2 && labels[n-2] == "lambda-url" {
			return labels[n-1], "lambda"
		}
		return "", ""
	}
	rest, found := strings.CutSuffix(strings.TrimSuffix(name, ".cn"), ".amazonaws.com")
	if !found {
		if rest, found = strings.CutSuffix(name, ".api.aws"); !found {
			return "", ""
		}
	}
	labels := strings.Split(rest, ".")
	last := labels[len(labels)-1]
	switch {
	case awsRegion.MatchString(last): // [ID.]SERVICE.REGION
		region, labels = last, labels[:len(labels)-1]
	case len(labels) >= 2 && (last == "es" || last == "aoss"): // ID.REGION.es
		if awsRegion.MatchString(labels[len(labels)-2]) {
			return labels[len(labels)-2], last
		}
		return "", ""
	case strings.HasPrefix(last, "s3-") && awsRegion.MatchString(last[3:]): // [BUCKET.]s3-REGION
		return last[3:], "s3"
	default: // [BUCKET.]SERVICE
		service = strings.TrimSuffix(last, "-fips")
		return awsGlobal[service], service
	}
	if len(labels) == 0 {
		return region, "" // *.REGION
	}
	n := len(labels)
	service = strings.TrimSuffix(labels[n-1], "-fips")
	if n >= 2 {
		if other := signedAs[labels[n-2]+"."+service]; other != "" {
			return region, other
		}
	}
	if other := signedAs[service]; other != "" {
		return region, other
	}
	return region, service
}
