mock_provider "azurerm" {}

variables {
  namespace_id = "/subscriptions/s/resourceGroups/bus/providers/Microsoft.ServiceBus/namespaces/example"
  pools        = ["linux", "gpu"]
  principals   = { control-plane = "00000000-0000-0000-0000-0000000000cc" }
}

run "each_pool_has_a_subscription_that_lets_its_own_messages_in" {
  assert {
    condition     = { for pool, rule in azurerm_servicebus_subscription_rule.pool : pool => rule.correlation_filter[0].label } == { linux = "linux", gpu = "gpu" }
    error_message = "a subscription with messages of another pool"
  }
}

run "the_control_plane_may_send_and_receive_and_manage_nothing" {
  assert {
    condition = toset([for given in concat(values(azurerm_role_assignment.sender), values(azurerm_role_assignment.receiver)) : given.role_definition_name]) == toset([
      "Azure Service Bus Data Sender", "Azure Service Bus Data Receiver",
    ])
    error_message = "other roles"
  }
}

run "a_namespace_by_its_name" {
  command = plan
  variables {
    namespace_id = "example"
  }
  expect_failures = [var.namespace_id]
}

run "a_pool_that_is_no_name_of_a_subscription" {
  command = plan
  variables {
    pools = ["-linux"]
  }
  expect_failures = [var.pools]
}
