mock_provider "azapi" {}
mock_provider "azurerm" {}

run "what_it_is_given_may_be_made_in_the_same_apply" {
  command = plan
  module {
    source = "./tests/beside"
  }
}
