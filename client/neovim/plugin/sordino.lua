-- Loaded by Neovim at start: only the command. `require("sordino").setup()` does the rest.
if vim.g.loaded_sordino then
  return
end
vim.g.loaded_sordino = true

vim.api.nvim_create_user_command("Sordino", function(given)
  require("sordino").command(given.args)
end, {
  nargs = 1,
  complete = function(begun)
    return vim.tbl_filter(function(name)
      return vim.startswith(name, begun)
    end, { "why", "status", "ask", "enable", "disable" })
  end,
  desc = "sordino: why | status | ask | enable | disable",
})
