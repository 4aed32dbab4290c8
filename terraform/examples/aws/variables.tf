variable "bucket_name" {
  description = "The bucket's name. No other bucket in the world may have it."
  type        = string
}

variable "region" {
  description = "Region of the bucket."
  type        = string
  default     = "eu-central-1"
}

variable "replica_region" {
  description = "Region of the copy."
  type        = string
  default     = "eu-west-1"
}

variable "operators" {
  description = "ARNs of the roles or users who restore."
  type        = list(string)
}

variable "auditors" {
  description = "ARNs of the roles or users who watch the backups and may not read their data."
  type        = list(string)
}
