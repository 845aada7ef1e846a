"""The page of the environment variables. The build fails if the code names a variable that this page does not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from docs.generator.markdown import code, table

ROOT = Path(__file__).parents[2]
_NAME = re.compile(
    r"(WIKIGPT|MLFLOW|AWS|HF|KF_PIPELINES|GX|TORCHINDUCTOR|CUDA|PET|MASTER|JOB_COMPLETION)_[A-Z0-9_]*[A-Z0-9]"
)
_INTRODUCTION = """# Environment variables

`wikigpt` reads these variables. An option takes precedence over its variable. The variables of AWS and MLflow are
checked before they are used: the error names the variable, and never the value of a secret.
"""
GROUPS: dict[str, dict[str, str]] = {
    "Runs": {
        "WIKIGPT_CORPUS": "the corpus, as `--corpus`",
        "WIKIGPT_HOME": "the home, as `--home`",
        "WIKIGPT_STORE": "the store, as `--store`; in a step, the store that it uses",
        "WIKIGPT_IMAGE": "the image of the steps, as `--image` of the commands for a cluster; every version records it",
        "WIKIGPT_COMMIT": "the commit that every version records; `wikigpt run` and the image set it",
        "WIKIGPT_PROMOTERS": "the MLflow accounts that may move the alias `champion`, separated by commas, as"
        " `register.promoters`",
        "WIKIGPT_ROLLOUT_WEBHOOK_SECRET": "the secret of MLflow's webhook, for `wikigpt rollout --listen`",
        "WIKIGPT_WEBHOOK": "the address to which `notify` sends the notice; `notify.webhook_variable` names another"
        " variable",
        "CUDA_VISIBLE_DEVICES": "the GPUs that a run may use",
        "WIKIGPT_COMPILE_CACHE": "a file with a compile cache, which the image ships; unpacked before a training that"
        " compiles",
        "TORCHINDUCTOR_CACHE_DIR": "the cache of compiled code; by default it is in the home",
    },
    "Signatures": {
        "WIKIGPT_SIGNING_KEY": "the private key, as `register.signing_key`",
        "WIKIGPT_SIGNING_KEY_PASSWORD": "the passphrase of an encrypted private key",
        "WIKIGPT_PUBLIC_KEY": "the public key by which versions must verify, its path or the key itself in PEM",
    },
    "Several machines": {
        "PET_NNODES": "the number of machines that train one model, a fixed one",
        "PET_NODE_RANK": "the number of this machine, from 0",
        "JOB_COMPLETION_INDEX": "the number of this machine if `PET_NODE_RANK` is not set; Kubernetes sets it in an"
        " indexed job",
        "PET_RDZV_ENDPOINT": "`address:port` of machine 0",
        "PET_MASTER_ADDR": "the address of machine 0 if `PET_RDZV_ENDPOINT` is not set",
        "PET_MASTER_PORT": "a free port of machine 0; 29500 by default",
        "MASTER_ADDR": "the address of machine 0 if `PET_MASTER_ADDR` is not set",
        "MASTER_PORT": "the port if `PET_MASTER_PORT` is not set",
    },
    "Object storage": {
        "AWS_ENDPOINT_URL_S3": "the address of SeaweedFS, MinIO or Ceph; unset for AWS",
        "AWS_ENDPOINT_URL": "the same for all services of AWS",
        "AWS_REGION": "the region of the bucket",
        "AWS_DEFAULT_REGION": "the region if `AWS_REGION` is not set",
        "AWS_ACCESS_KEY_ID": "the ID of the access key",
        "AWS_SECRET_ACCESS_KEY": "the secret of the access key",
        "AWS_SESSION_TOKEN": "the token of temporary credentials",
        "AWS_PROFILE": "a profile of the credentials file instead of keys",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "the file with the token of a service account",
        "AWS_CA_BUNDLE": "the certificate of a private authority",
        "AWS_MAX_ATTEMPTS": "attempts of a request, from 1 to 100; 6 by default",
        "AWS_RETRY_MODE": "the retry mode of boto3; `standard` by default",
        "AWS_METADATA_SERVICE_TIMEOUT": "seconds to wait for the metadata service of the machine",
        "AWS_METADATA_SERVICE_NUM_ATTEMPTS": "attempts to reach the metadata service of the machine",
        "WIKIGPT_S3_PATH_STYLE": "`1` for `https://host/bucket`, `0` for `https://bucket.host`",
        "WIKIGPT_S3_CHECKSUMS": "`when_required` for servers that store checksum trailers inside the object",
    },
    "MLflow": {
        "MLFLOW_TRACKING_URI": "the tracking server or database; by default the database of the home",
        "MLFLOW_TRACKING_USERNAME": "the user of the tracking server",
        "MLFLOW_TRACKING_PASSWORD": "the password of the user",
        "MLFLOW_TRACKING_TOKEN": "a bearer token instead of user and password",
        "MLFLOW_TRACKING_AUTH": "MLflow's authentication plugin",
        "MLFLOW_REGISTRY_URI": "the server or database of the registry, if it is another one",
        "MLFLOW_ENABLE_WORKSPACES": "whether MLflow separates its records by workspace",
        "MLFLOW_WORKSPACE": "MLflow's workspace",
        "MLFLOW_EXPERIMENT_NAME": "the experiment of the runs; `wikigpt` by default",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "seconds that one request may take, from 1 to 3,600",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "repetitions of a request, from 0 to 9",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "the growth of the pauses between repetitions, from 0 to 119",
        "MLFLOW_LOGGING_LEVEL": "`DEBUG`, `INFO`, `WARNING` or `ERROR`",
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "SQLAlchemy's pool of connections to a database",
    },
    "Hugging Face Hub": {
        "HF_ENDPOINT": "the address of the Hub or of a mirror",
        "HF_TOKEN": "a token that may read private repositories",
        "HF_HOME": "the folder of the Hub's cache",
        "HF_HUB_OFFLINE": "`1` uses the cache only",
    },
    "Kubeflow Pipelines": {
        "KF_PIPELINES_ENDPOINT": "the address of the server, as `--endpoint`",
        "KF_PIPELINES_NAMESPACE": "the namespace of the runs, as `--namespace`",
        "KF_PIPELINES_TOKEN": "a bearer token",
        "KF_PIPELINES_COOKIES": "cookies of a session, as in `authservice_session=…`",
        "KF_PIPELINES_SA_TOKEN_PATH": "a file with the projected token of a service account",
        "KF_PIPELINES_CA_CERT": "a file with the authority that signed the certificate of the server",
        "KF_PIPELINES_KUBE_CONTEXT": "the context of the kubeconfig",
        "KF_PIPELINES_ROOT": "the pipeline root, for `wikigpt logs`",
        "KF_PIPELINES_UI_ENDPOINT": "the address of the user interface, which `wikigpt submit` prints",
        "KUBECONFIG": "the kubeconfig; `~/.kube/config` by default",
    },
    "Set by the project": {
        "WIKIGPT_RUN": "the run of a step on this machine",
        "WIKIGPT_STOP": "the file whose existence asks a step to stop",
        "WIKIGPT_OWNER_PID": "the process of a run on this machine, by which others see whether it is alive",
        "WIKIGPT_RUN_DEADLINE_SECONDS": "`cluster.run_deadline_seconds`, in a pod",
        "WIKIGPT_MLFLOW_TRACKING_URI": "`MLFLOW_TRACKING_URI` in a pod, where MLflow's plugin of Kubeflow Pipelines may"
        " set the latter itself",
        "WIKIGPT_MLFLOW_TRACKING_USERNAME": "`MLFLOW_TRACKING_USERNAME` in a pod, for the same reason",
        "WIKIGPT_MLFLOW_TRACKING_PASSWORD": "`MLFLOW_TRACKING_PASSWORD` in a pod, for the same reason",
        "MLFLOW_RUN_ID": "the MLflow run of a task, if MLflow's plugin of Kubeflow Pipelines injects it",
        "MLFLOW_BACKEND_STORE_URI": "the database of the server that `wikigpt ui` starts",
        "MLFLOW_DISABLE_TELEMETRY": "`true`: MLflow reports nothing to its authors",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "`false`: the log has no progress bars",
        "HF_HUB_DISABLE_TELEMETRY": "`1`: the Hub's client reports nothing to its authors",
        "HF_HUB_DISABLE_PROGRESS_BARS": "`1`: the log has no progress bars",
        "GX_ANALYTICS_ENABLED": "`false`: Great Expectations reports nothing to its authors",
    },
}
# Libraries read these, and the code of the project names them only in messages or not at all.
BY_LIBRARIES = {"AWS_PROFILE", "HF_HOME", "HF_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH", "KUBECONFIG"}


def environment_page() -> str:
    """The page, with one table for each group.

    Raises:
        ValueError: the code names a variable that the page does not describe, or the page one that nothing reads.
    """
    described = {name for group in GROUPS.values() for name in group}
    if wrong := described ^ (variables_in_code() | BY_LIBRARIES):
        raise ValueError(f"docs/generator/environment_page.py and the code differ in {', '.join(sorted(wrong))}")
    parts = [
        f"## {title}\n\n{table(('variable', 'meaning'), [[code(name), text] for name, text in group.items()])}"
        for title, group in GROUPS.items()
    ]
    return "\n".join([_INTRODUCTION, *parts])


def variables_in_code() -> set[str]:
    """The variables that the packages name as a whole string."""
    found = set()
    for path in [*(ROOT / "components").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME.fullmatch(node.value):
                found.add(node.value)
    return found
