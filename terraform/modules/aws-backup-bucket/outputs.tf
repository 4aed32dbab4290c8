output "bucket" {
  description = "The bucket's name."
  value       = aws_s3_bucket.backups.bucket
}

output "bucket_arn" {
  description = "The bucket's ARN, for the replication of another instance of this module."
  value       = aws_s3_bucket.backups.arn
}

output "region" {
  description = "The bucket's region."
  value       = aws_s3_bucket.backups.region
}

output "kms_key_arn" {
  description = "The ARN of the key that encrypts the backups."
  value       = local.kms_key_arn
}

output "signing_keys" {
  description = "The key that signs for each role, for --sign-with and for key in [signing] of pgstow.toml."
  value       = { for role, key in aws_kms_key.signing : role => "awskms:${key.arn}" }
}

output "url" {
  description = "The store's URL, for --to, --from and PGSTOW_STORE."
  value       = module.roles.url
}

output "role_arns" {
  description = "The ARN of each role, by its name: writer, restorer, auditor, pruner."
  value       = module.roles.role_arns
}

output "instance_profiles" {
  description = "The name of the instance profile of each role that EC2 instances may assume."
  value       = module.roles.instance_profiles
}

output "pgstow_toml" {
  description = "A pgstow.toml with this bucket, for pgstow run."
  value       = module.roles.pgstow_toml
}
