"""Creates the buckets named in BUCKETS if they are missing, with a rule that aborts incomplete uploads after a day."""

import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ABANDONED = {
    "ID": "abandoned-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}


def main() -> None:
    client = boto3.client("s3", config=Config(retries={"mode": "standard", "total_max_attempts": 10}))
    present = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in os.environ["BUCKETS"].split():
        if name not in present:
            client.create_bucket(Bucket=name)
        try:
            client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [ABANDONED]})
        except ClientError as error:  # some servers do not support this rule, and the pipeline works without it
            print(f"{name}: incomplete uploads are not removed: {error.response['Error']['Code']}")
        print(f"{name}: exists")


if __name__ == "__main__":
    main()
