output "bucket" {
  description = "The bucket's name."
  value       = aws_s3_bucket.backups.bucket
}

output "bucket_arn" {
  description = "The bucket's ARN, for another instance's replication."
  value       = aws_s3_bucket.backups.arn
}

output "region" {
  description = "The bucket's region."
  value       = aws_s3_bucket.backups.region
}

output "kms_key_arn" {
  description = "The ARN of the key that encrypts the backups."
  value       = aws_kms_key.backups.arn
}

output "url" {
  description = "What pgstow takes for --to and --from, or as PGSTOW_STORE."
  value       = local.url
}

output "role_arns" {
  description = "The ARN of each role that was made: writer, restorer, auditor, pruner."
  value       = { for role, made in aws_iam_role.backups : role => made.arn }
}

output "instance_profiles" {
  description = "The name of the instance profile of each role that EC2 instances may take."
  value       = { for role, made in aws_iam_instance_profile.backups : role => made.name }
}

output "pgstow_toml" {
  description = "A pgstow.toml for this bucket, for pgstow run."
  value       = local.toml
}

locals {
  url = "s3://${aws_s3_bucket.backups.bucket}/${var.prefix}?region=${aws_s3_bucket.backups.region}&kms_key=${aws_kms_key.backups.arn}"

  # A string of JSON is one of TOML.
  toml = join("\n", concat(
    [
      "[defaults]",
      "cluster = ${jsonencode(var.cluster)}",
      "",
      "[destinations.offsite]",
      "url = \"${local.url}\"",
    ],
    flatten([
      for name, conninfo in var.databases : [
        "",
        "[databases.${can(regex("^[A-Za-z0-9_-]+$", name)) ? name : jsonencode(name)}]",
        "conninfo = ${jsonencode(conninfo)}",
        "destinations = [\"offsite\"]",
      ]
    ]),
    [""],
  ))
}
