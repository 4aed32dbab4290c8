output "cluster_arn" {
  description = "The ECS cluster's ARN."
  value       = aws_ecs_cluster.backups.arn
}

output "task_definition_arn" {
  description = "The task definition's ARN, to run it by hand with aws ecs run-task."
  value       = aws_ecs_task_definition.backups.arn
}

output "schedule_arn" {
  description = "The schedule's ARN."
  value       = aws_scheduler_schedule.backups.arn
}

output "log_group" {
  description = "The log group that the task's output goes to."
  value       = aws_cloudwatch_log_group.backups.name
}
