variable "bucket_name" {
  description = "The bucket's name, which has to be nobody else's in the world."
  type        = string
}

variable "region" {
  description = "Where the backups are."
  type        = string
  default     = "eu-central-1"
}

variable "replica_region" {
  description = "Where their copies are."
  type        = string
  default     = "eu-west-1"
}

variable "operators" {
  description = "ARNs of the roles or users who restore."
  type        = list(string)
}

variable "auditors" {
  description = "ARNs of the roles or users who look after the backups without reading them."
  type        = list(string)
}
