"""Validate infra/iam, and the head's policy of infra/aws, against what AWS knows.

pip install parliament
python -m tests.evaluation.validate_policies
"""

import sys

from tests.identities import POLICIES, policy

PLACES = {"INPUT": "s3://one/in", "OUTPUT": "s3://two/out", "MODEL": "s3://three/model"}
WRONG = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:HeadBucket"}}'


def problems(document: str, *, ignore: str = "") -> list[str]:
    """Give what parliament finds in a policy."""
    import parliament

    findings = parliament.analyze_policy_string(document).findings
    return [str(found) for found in findings if found.issue != ignore]


def main() -> int:
    """Print a line a policy; gives the exit code."""
    found = {path.stem: problems(policy(path.stem, PLACES)) for path in POLICIES.glob("*.json")}
    head = (POLICIES.parent / "aws" / "head-policy.json").read_text()
    # Of two statements that allow one action together, parliament looks at each alone.
    found["head-policy"] = problems(head, ignore="RESOURCE_MISMATCH")
    for name, lines in sorted(found.items()):
        print(f"{'FAIL' if lines else 'PASS'} {name}.json", *lines, sep="\n  " if lines else " ")
    blind = not problems(WRONG)
    print(f"{'FAIL' if blind else 'PASS'} a policy with an action that is none is found out")
    return int(blind or any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
