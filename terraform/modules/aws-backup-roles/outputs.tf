output "url" {
  description = "The store's URL, for --to, --from and PGSTOW_STORE."
  value       = local.url
}

output "role_arns" {
  description = "The ARN of each role, by its name: writer, restorer, auditor, pruner."
  value       = { for role, made in aws_iam_role.backups : role => made.arn }
}

output "instance_profiles" {
  description = "The name of the instance profile of each role that EC2 instances may assume."
  value       = { for role, made in aws_iam_instance_profile.backups : role => made.name }
}

output "pgstow_toml" {
  description = "A pgstow.toml with this bucket, for pgstow run."
  value       = local.toml
}

locals {
  options = concat([for region in var.region[*] : "region=${region}"], [for key in var.kms_key[*] : "kms_key=${key.arn}"])
  url     = "s3://${var.bucket_name}/${var.prefix}${length(local.options) == 0 ? "" : "?"}${join("&", local.options)}"

  # A JSON string is also a TOML string.
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
