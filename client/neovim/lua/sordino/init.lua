-- sordino in Neovim: ghost text from the endpoint of this machine, through `sordino lsp`.
-- Needs Neovim 0.7 or newer. The server finds port and token itself; no text of a file that may hold secrets leaves Neovim's
-- own process but to it, and it sends none of that to the endpoint.
local ghost = require("sordino.ghost")
local M = {}

local METHOD = "textDocument/inlineCompletion"
local INVOKED, AUTOMATIC = 1, 2

M.defaults = {
  command = { "sordino", "lsp" },
  show = nil, -- quiet, balanced, eager or all; nil leaves it to the endpoint
  keys = {
    accept = "<Tab>",
    accept_word = "<C-Right>",
    accept_line = "<C-M-Right>",
    ask = "<M-\\>",
    hide = "<C-]>",
  },
}

local options, enabled, client_id, pending = M.defaults, true, nil, nil

local function client()
  return client_id and vim.lsp.get_client_by_id(client_id) or nil
end

local function start()
  if client() then
    return client()
  end
  if vim.fn.executable(options.command[1]) == 0 then
    vim.notify_once("sordino: there is no program " .. options.command[1] .. "; pip install sordino", vim.log.levels.WARN)
    return nil
  end
  client_id = vim.lsp.start_client({
    name = "sordino",
    cmd = options.command,
    init_options = { show = options.show },
    flags = { debounce_text_changes = 0 }, -- a request must speak of the text that stands
    on_attach = function()
      vim.schedule(M.ask) -- what was asked for while the server started was lost
    end,
    on_exit = function()
      client_id, pending = nil, nil
      vim.schedule(ghost.hide)
    end,
  })
  return client()
end

local function attach(buffer)
  if vim.bo[buffer].buftype ~= "" or not vim.bo[buffer].modifiable then
    return nil
  end
  local server = start()
  if server and not vim.lsp.buf_is_attached(buffer, client_id) then
    vim.lsp.buf_attach_client(buffer, client_id)
  end
  return server
end

local function withdraw()
  local server = client()
  if pending and server then
    server.cancel_request(pending)
  end
  pending = nil
end

-- Asks for the place of the cursor; what comes is shown if the cursor and the text are still there.
function M.ask(by_hand)
  withdraw()
  ghost.hide()
  if not enabled or vim.fn.mode():sub(1, 1) ~= "i" or vim.fn.pumvisible() == 1 then
    return
  end
  local buffer = vim.api.nvim_get_current_buf()
  local server = attach(buffer)
  if not server or not server.initialized then
    return
  end
  local row, column = unpack(vim.api.nvim_win_get_cursor(0))
  local tick = vim.api.nvim_buf_get_changedtick(buffer)
  local parameters = vim.lsp.util.make_position_params(0, server.offset_encoding)
  parameters.context = { triggerKind = by_hand and INVOKED or AUTOMATIC }
  local sent, number = server.request(METHOD, parameters, function(failed, result)
    if failed or not result or not enabled or tick ~= vim.api.nvim_buf_get_changedtick(buffer) then
      return
    end
    local now_row, now_column = unpack(vim.api.nvim_win_get_cursor(0))
    local here = vim.api.nvim_get_current_buf() == buffer and now_row == row and now_column == column
    local item = (result.items or {})[1]
    if here and item and item.insertText ~= "" and vim.fn.mode():sub(1, 1) == "i" then
      ghost.show({ buffer = buffer, row = row - 1, column = column, text = item.insertText, command = item.command })
    end
  end, buffer)
  pending = sent and number or nil
end

-- Takes all, a "line" or a "word" of what is shown; false when nothing is.
function M.accept(kind)
  local taken = ghost.accept(kind)
  if not taken then
    return false
  end
  local server = client()
  if taken.whole and server and taken.command then
    server.request("workspace/executeCommand", {
      command = taken.command.command,
      arguments = taken.command.arguments,
    }, function() end)
  end
  return true
end

local function key(name, act)
  local keys = options.keys[name]
  if not keys then
    return
  end
  vim.keymap.set("i", keys, function()
    if not act() then -- nothing is shown: the key does what it always did
      -- "i": before what was typed since, or a quick typist gets the letters in another order
      vim.api.nvim_feedkeys(vim.api.nvim_replace_termcodes(keys, true, false, true), "ni", false)
    end
  end, { desc = "sordino: " .. name:gsub("_", " ") })
end

function M.command(name)
  if name == "why" then
    local server = attach(vim.api.nvim_get_current_buf())
    if server then
      server.request("workspace/executeCommand", { command = "sordino.why", arguments = {} }, function() end)
    end
  elseif name == "ask" then
    M.ask(true)
  elseif name == "enable" or name == "disable" then
    enabled = name == "enable"
    if not enabled then
      withdraw()
      ghost.hide()
    end
  elseif name == "status" then
    vim.notify("sordino: " .. M.status())
  else
    vim.notify("sordino: :Sordino why | status | ask | enable | disable", vim.log.levels.ERROR)
  end
end

-- One word for a status line: "off", "ready", or "no server".
function M.status()
  return not enabled and "off" or (client() and "ready" or "no server")
end

function M.setup(given)
  options = vim.tbl_deep_extend("force", M.defaults, given or {})
  vim.api.nvim_set_hl(0, "SordinoGhost", { link = "Comment", default = true })
  local group = vim.api.nvim_create_augroup("sordino", { clear = true })
  local function on(events, act)
    vim.api.nvim_create_autocmd(events, { group = group, callback = act })
  end
  on({ "CursorMovedI", "TextChangedI" }, function()
    M.ask(false)
  end)
  on("InsertEnter", function()
    vim.schedule(M.ask) -- the mode changes behind this event
  end)
  on({ "InsertLeave", "BufLeave", "CompleteChanged" }, function()
    withdraw()
    ghost.hide()
  end)
  on("BufEnter", function(event)
    attach(event.buf)
  end)
  key("accept", M.accept)
  key("accept_word", function()
    return M.accept("word")
  end)
  key("accept_line", function()
    return M.accept("line")
  end)
  key("hide", function()
    local shown = ghost.shown ~= nil
    ghost.hide()
    return shown
  end)
  key("ask", function()
    M.ask(true)
    return true
  end)
end

return M
